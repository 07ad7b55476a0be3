"""Encoder–decoder models behind one interface, :class:`nmt.models.seq2seq.Seq2Seq`."""
