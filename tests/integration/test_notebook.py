"""The notebook in ``docs/`` runs from its first cell to its last."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

import nmt
import nmt.api

# A training of seconds in place of the demo's.
TINY = {
    "data.train": {"kind": "demo", "part": "valid", "seed": 2},
    "data.test.demo": {"kind": "demo", "part": "valid", "seed": 3},
    "model.d_model": 32,
    "model.d_ff": 32,
    "tokenizer.vocab_size": 500,
    "train.max_steps": 4,
    "train.validate_every": 4,
    "train.device": "cpu",
    "search.max_length_ratio": 1.0,
    "search.max_length_offset": 1,
}
NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = nmt.api.train
    monkeypatch.setattr(nmt.api, "train", lambda name: train(name, TINY))
    plt.switch_backend("agg")
    names: dict = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    out = capsys.readouterr()
    assert names["trained"].steps == 4
    assert len(out.out.splitlines()) == 4  # three hypotheses and a score
    assert names["attention"].weights.shape[2:] == (len(names["attention"].target), len(names["attention"].source))
    assert isinstance(names["model"], nmt.api.Model)
    [axes] = plt.gcf().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == names["attention"].source
    plt.close("all")
