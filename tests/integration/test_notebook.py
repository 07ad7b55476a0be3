"""The notebook in ``docs/`` runs from its first cell to its last."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

import nmt.api

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


def test_every_cell_of_the_notebook_runs(task, monkeypatch, capsys):
    """The tiny task is trained in place of the demo; its pieces of the notebook's sentences are unknown ones."""
    train, config = nmt.api.train, task.config_file("transformer", search={"beam_size": 4})
    monkeypatch.setattr(nmt.api, "train", lambda name: train(config, {"train.max_steps": 2}))
    plt.switch_backend("agg")
    names: dict = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["trained"].steps == 2
    assert len(capsys.readouterr().out.splitlines()) == 4  # three hypotheses and a score
    attention = names["attention"]
    assert attention.weights.shape[2:] == (len(attention.target), len(attention.source))
    [axes] = plt.gcf().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == attention.source
    plt.close("all")
