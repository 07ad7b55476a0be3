"""Neural machine translation from one YAML file to BLEU."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nmt.api import Model as Model
    from nmt.api import load as load
    from nmt.api import train as train

__all__ = ["Model", "load", "train"]


def __getattr__(name: str) -> Any:
    """Load :mod:`nmt.api` when one of its names is used first: ``nmt --help`` needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("nmt.api"), name)
