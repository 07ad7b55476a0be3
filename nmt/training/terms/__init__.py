"""The terms of the training loss beside the cross entropy.

To add a term, write its key and section in ``nmt/config/terms.py``; then write a module here with a subclass of
:class:`~nmt.training.terms.base.Term`, and add it to :data:`TERMS` under the name of the key.
"""

from __future__ import annotations

from typing import Any

from nmt.config.terms import TermsConfig
from nmt.models.rnn import RNN
from nmt.models.seq2seq import Seq2Seq
from nmt.training.terms.base import Term
from nmt.training.terms.cutoff import Cutoff, SimCut
from nmt.training.terms.distillation import Distillation
from nmt.training.terms.guided_alignment import GuidedAlignment
from nmt.training.terms.l2_start import L2Start
from nmt.training.terms.r_drop import RDrop
from nmt.training.terms.reinforce import Reinforce
from nmt.training.terms.word_dropout import WordDropout
from nmt.training.terms.z_loss import ZLoss

TERMS: dict[str, type[Term[Any]]] = {
    "z_loss": ZLoss,
    "word_dropout": WordDropout,
    "r_drop": RDrop,
    "cutoff": Cutoff,
    "simcut": SimCut,
    "guided_alignment": GuidedAlignment,
    "l2_start": L2Start,
    "distillation": Distillation,
}


def build_terms(config: TermsConfig, model: Seq2Seq[Any]) -> dict[str, Term[Any]]:
    """The terms that are on, by the names of their keys."""
    given = {name: getattr(config, name) for name in TERMS}
    terms = {name: TERMS[name](value, model) for name, value in given.items() if value is not None}
    if isinstance(model, RNN) and model.baseline is not None:  # this model cannot be trained without it
        terms["attention_entropy"] = Reinforce(model.config.hard, model)
    return terms
