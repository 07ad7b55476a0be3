"""The command line. Each command is a module in :mod:`nmt.cli.commands`, listed in :mod:`nmt.cli.program`."""

from nmt.cli.program import main

__all__ = ["main"]
