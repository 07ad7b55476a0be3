"""The terms of the training loss beside the cross entropy.

To add a term, write its key and section in ``nmt/config/terms.py``; then write a module here with a subclass of
:class:`~nmt.training.terms.base.Term`, and add it to :data:`TERMS` under the name of the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nmt.config.terms import TermsConfig
from nmt.models.rnn import RNN
from nmt.models.seq2seq import Seq2Seq
from nmt.training.terms.base import Term
from nmt.training.terms.r_drop import RDrop
from nmt.training.terms.reinforce import Reinforce
from nmt.training.terms.word_dropout import WordDropout
from nmt.training.terms.z_loss import ZLoss

TERMS: dict[str, Callable[[Any], Term]] = {"z_loss": ZLoss, "word_dropout": WordDropout, "r_drop": RDrop}


def build_terms(config: TermsConfig) -> dict[str, Term]:
    """The terms that are on, by the names of their keys."""
    return {name: make(section) for name, make in TERMS.items() if (section := getattr(config, name)) is not None}


def model_terms(model: Seq2Seq[Any]) -> dict[str, Term]:
    """The terms without which a model cannot be trained, by the names of what they log."""
    if isinstance(model, RNN) and model.baseline is not None:
        return {"attention_entropy": Reinforce(model)}
    return {}
