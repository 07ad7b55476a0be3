"""The notebook in ``docs/`` runs from its first cell to its last."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

import nmt

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    names: dict = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    out = capsys.readouterr()
    assert names["trained"].steps == 60
    assert len(out.out.splitlines()) == 4  # three hypotheses and a score
    assert names["attention"].weights.shape[2:] == (len(names["attention"].target), len(names["attention"].source))
    assert isinstance(names["model"], nmt.api.Model)
    [axes] = plt.gcf().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == names["attention"].source
    plt.close("all")
