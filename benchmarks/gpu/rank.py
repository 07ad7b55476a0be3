"""One process of the stage ``ranks``."""

import sys

from .ranks import main

main(*sys.argv[1:])
