"""The command line. Each command is a module in :mod:`nmt.cli.commands`, listed in :mod:`nmt.cli.program`."""

import sys

try:
    from nmt.cli.program import main
except KeyboardInterrupt:  # while modules are loaded
    print("nmt: interrupted", file=sys.stderr)
    sys.exit(130)

__all__ = ["main"]
