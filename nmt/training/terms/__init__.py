"""The terms of the training loss beside the cross entropy.

To add a term, write its key and section in ``nmt/config/terms.py``; then write a module here with a subclass of
:class:`~nmt.training.terms.base.Term`, and add it to :data:`TERMS` under the name of the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nmt.config.terms import TermsConfig
from nmt.training.terms.base import Term
from nmt.training.terms.r_drop import RDrop
from nmt.training.terms.word_dropout import WordDropout
from nmt.training.terms.z_loss import ZLoss

TERMS: dict[str, Callable[[Any], Term]] = {"z_loss": ZLoss, "word_dropout": WordDropout, "r_drop": RDrop}


def build_terms(config: TermsConfig) -> dict[str, Term]:
    """The terms that are on, by the names of their keys."""
    return {name: make(section) for name, make in TERMS.items() if (section := getattr(config, name)) is not None}
