"""Make the content of runs-9b825eb.tar.xz, in an empty folder and with commit 9b825eb on PYTHONPATH.

Two trainings stop after the checkpoint of step 4. ``expected/`` is what the same commit makes of them at step 8.
Lock and TensorBoard files, which differ each time, were left out of the archive.
"""

import contextlib
import random
import shutil
from pathlib import Path

from nmt.cli import main
from nmt.training.trainer import Trainer

ENGLISH = ["one", "two", "three", "four", "five", "six", "seven"]
GERMAN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben"]
WORDS = dict(zip(ENGLISH, GERMAN, strict=True))
COMMON = """\
data:
  src_lang: en
  tgt_lang: de
  train: {kind: text, src: train.src, tgt: train.tgt}
  valid: %s
  test: {tiny: {kind: text, src: test.src, tgt: test.tgt}}
  store: store
tokenizer: %s
model: %s
train: {max_steps: 8, batch_tokens: 128, validate_every: 4, precision: fp32, device: cpu, threads: 1, samples: 0, %s}
search: {beam_size: 2}
"""
SECTIONS = {
    "transformer": (
        "{kind: text, src: valid.src, tgt: valid.tgt}",
        "{vocab_size: 36}",
        "{type: transformer, d_model: 16, d_ff: 32, num_heads: 2, encoder_layers: 1, decoder_layers: 1}",
        "schedule: {name: cosine, warmup_steps: 2}",
    ),
    "rnn": (
        "{kind: holdout, fraction: 0.1}",
        "{vocab_size: 36, sampling: {}}",
        "{type: rnn, d_model: 16, d_hidden: 16, d_attention: 16}",
        "ema_decay: 0.9, average: 2, keep_last: 2, label_smoothing: 0.0",
    ),
}


class Stop(BaseException):
    pass


def write_corpus() -> None:
    rng = random.Random(0)
    sentences: dict[str, None] = {}
    while len(sentences) < 170:
        sentences[" ".join(rng.choices(list(WORDS), k=rng.randint(2, 6)))] = None
    lines = list(sentences)
    for name, part in {"train": lines[:150], "valid": lines[150:160], "test": lines[160:]}.items():
        targets = [" ".join(WORDS[word] for word in reversed(line.split())) for line in part]
        for side, content in (("src", part), ("tgt", targets)):
            Path(f"{name}.{side}").write_text("".join(f"{line}\n" for line in content), encoding="utf-8")


write_corpus()
update = Trainer._update
for name, sections in SECTIONS.items():
    Path(f"{name}.yaml").write_text(COMMON % sections, encoding="utf-8")

    def stop(self, batches):
        if self.progress.step == 5:
            raise Stop
        update(self, batches)

    Trainer._update = stop
    with contextlib.suppress(Stop):
        main(["train", f"{name}.yaml"])
Trainer._update = update
shutil.copytree(".", "../as-left")
Path("../as-left/expected").mkdir()
for name in SECTIONS:
    assert main(["train", f"{name}.yaml"]) == 0
    for file, ending in (("model/model", "safetensors"), ("metrics", "metrics.jsonl"), ("evaluation/tiny", "hyp")):
        path = f"runs/{name}/{file}.{ending.removeprefix('metrics.')}"
        shutil.copy(path, f"../as-left/expected/{name}.{ending}")
