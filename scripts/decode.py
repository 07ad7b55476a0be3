"""Translate a file with a trained run: ``scripts/decode.py RUN -i FILE -o FILE``, the same as ``nmt translate``."""

import sys

from nmt.cli import main

if __name__ == "__main__":
    sys.exit(main(["translate", *sys.argv[1:]]))
