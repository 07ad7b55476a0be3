"""Draw where a trained model looks while it translates one sentence.

scripts/attention.py RUN "A dog runs through the snow." -o attention.png
"""

import argparse
import sys

from nmt.cli import guarded
from nmt.pipeline import attention_map, load_translator
from nmt.run.directory import Run
from nmt.training.figures import attention_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", help="run directory, or its name under runs/")
    parser.add_argument("sentence", help="source sentence")
    parser.add_argument("-o", "--output", default="attention.png", help="image file to write")
    arguments = parser.parse_args()
    translator = load_translator(Run.open(arguments.run))
    best = translator.translate([arguments.sentence])[0][0]
    print(best.text)
    drawn = attention_map(translator, arguments.sentence, best)
    if drawn is None:
        print("nothing to draw: the model has no attention, or the sentence is empty", file=sys.stderr)
        return
    attention_figure(*drawn).savefig(arguments.output)


if __name__ == "__main__":
    sys.exit(guarded("attention", main))
