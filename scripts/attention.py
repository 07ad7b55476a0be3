"""Draw the attention weights of a trained model for one sentence.

scripts/attention.py RUN "A dog runs through the snow." -o attention.png
"""

import argparse
import sys
from pathlib import Path

from nmt.cli.errors import guarded
from nmt.errors import DataError
from nmt.insight.attention import attention_map
from nmt.insight.figures import attention_figure, image_format, save_figure
from nmt.run.directory import Run
from nmt.translation.loading import load_translator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", help="run directory, or its name under runs/")
    parser.add_argument("sentence", help="source sentence")
    parser.add_argument("-o", "--output", type=Path, default=Path("attention.png"), help="image file to write")
    arguments = parser.parse_args()
    image_format(arguments.output)
    translator = load_translator(Run.open(arguments.run))
    best = translator.translate([arguments.sentence])[0][0]
    [source] = translator.encode([arguments.sentence])
    drawn = attention_map(translator.engine.model, translator.tokenizer, source, best.tokens)
    if drawn is None:
        raise DataError("nothing to draw: the model has no attention, or the sentence is empty")
    try:
        save_figure(attention_figure(*drawn), arguments.output)
    except DataError as error:
        raise DataError(f"{error} with -o FILE") from None
    print(f"{best.text}\nwrote {arguments.output}")


if __name__ == "__main__":
    sys.exit(guarded("attention", main))
