"""CTranslate2 called directly, from a text file to a text file, as a user of an exported model would.

peer_ctranslate2.py MODEL TOKENIZER -i INPUT -o OUTPUT [--threads N] [--beam-size N] [--batch-size N] ...

MODEL is a folder of CTranslate2, TOKENIZER the SentencePiece model of both languages.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ctranslate2
import sentencepiece


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("tokenizer")
    parser.add_argument("-i", "--input", required=True)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="batches at once; they share the threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--length-penalty", type=float, default=1.0, help="exponent of the length")
    parser.add_argument("--batch-size", type=int, default=64, help="sentences")
    parser.add_argument(
        "--max-length-ratio", type=float, default=2.0, help="longest translation, by the longest source"
    )
    parser.add_argument("--max-length-offset", type=int, default=10)
    arguments = parser.parse_args()
    # Load
    translator = ctranslate2.Translator(
        arguments.model,
        device=arguments.device,
        inter_threads=arguments.workers,
        intra_threads=arguments.threads // arguments.workers,
    )
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=arguments.tokenizer)
    # Translate
    lines = Path(arguments.input).read_text(encoding="utf-8").splitlines()
    sources = tokenizer.encode(lines, out_type=str)
    results = translator.translate_batch(  # sorts by length by itself
        sources,
        beam_size=arguments.beam_size,
        length_penalty=arguments.length_penalty,
        max_batch_size=arguments.batch_size,
        max_decoding_length=int(arguments.max_length_ratio * max(map(len, sources)) + arguments.max_length_offset),
        disable_unk=True,
    )
    texts = tokenizer.decode([result.hypotheses[0] for result in results])
    Path(arguments.output).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


if __name__ == "__main__":
    main()
