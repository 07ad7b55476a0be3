"""Translate a file with a trained run, as ``nmt translate`` does: ``scripts/decode.py RUN -i FILE -o FILE``."""

import sys

from nmt.cli import main

if __name__ == "__main__":
    sys.exit(main(["translate", *sys.argv[1:]]))
