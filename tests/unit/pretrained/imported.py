"""What ``init.from`` reads of a pretrained model."""

from nmt.config.model import TransformerConfig
from nmt.config.pretrained import find, settings
from nmt.data.tokenizer import Tokenizer
from nmt.models.build import build_model
from nmt.pretrained.vocabulary import write_tokenizer
from nmt.pretrained.weights import read
from nmt.run.checkpoint import load_weights


def imported(name, tmp_path):
    """Source, our model and our tokenizer of a pretrained model, or of an export."""
    source = find(str(name))
    config = TransformerConfig(**settings(source)["model"])
    (tmp_path / "tokenizer").mkdir()
    write_tokenizer(source, tmp_path / "tokenizer")
    tokenizer = Tokenizer(tmp_path / "tokenizer")
    model = build_model(config, tokenizer.src_vocab_size, tokenizer.tgt_vocab_size, tokenizer.pad_id).eval()
    load_weights(model, read(source, config, None)[0], tmp_path)
    return source, model, tokenizer
