"""``nmt attention`` and ``nmt translate --alignments``: what they show is what the model computes."""

import base64
import json
import math
import re
import zlib
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt.cli import main
from nmt.insight.explain import explain
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.translation.loading import load_translator
from tests.conftest import Task
from tests.runs import same, validations

SOURCES = ["one two three", "seven six <b>five</b> four", "two two"]
TRAIN = {"max_steps": 24, "validate_every": 8, "keep_last": 3, "batch_tokens": 512, "samples": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Run]:
    """A run of each family, one that watches sentences."""
    task = Task(tmp_path_factory.mktemp("attention"))
    for family, name, watch in (
        ("rnn", "rnn", []),
        ("transformer", "transformer", []),
        ("rnn", "watching", SOURCES[:2]),
    ):
        config = task.config_file(family, name, train={**TRAIN, "watch": watch}, search={"beam_size": 5})
        assert main(["train", str(config)]) == 0
    return {name: Run(task.folder / "runs" / name) for name in ("rnn", "transformer", "watching")}


@pytest.fixture(params=["rnn", "transformer"])
def run(trained, request) -> Run:
    return trained[request.param]


def data_of(path: Path) -> dict:
    page = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def weights_of(data: dict, number: int) -> dict[tuple[str, int, int], torch.Tensor]:
    """The weights of a sentence by kind, checkpoint and hypothesis, [layers, H, rows, columns]."""
    sentence, shapes = data["sentences"][number], data["shapes"]
    left = torch.tensor(list(zlib.decompress(base64.b64decode(sentence["data"]))), dtype=torch.float32) / 255
    found = {}

    def take(kind: str, rows: int, columns: int) -> torch.Tensor:
        nonlocal left
        layers, heads = shapes[kind]
        out = torch.zeros(rows, layers, heads, columns)
        for row in range(rows):
            width = row + 1 if kind == "decoder" else columns
            out[row, :, :, :width] = left[: layers * heads * width].view(layers, heads, width)
            left = left[layers * heads * width :]
        return out.permute(1, 2, 0, 3)

    source = len(sentence["pieces"])
    for stop in range(max(1, len(data["stops"]))):
        for n, output in enumerate(sentence["outputs"]):
            target = len(output["pieces"])
            if n == 0 and "encoder" in shapes:
                found["encoder", stop, 0] = take("encoder", source, source)
            if "cross" in shapes:
                found["cross", stop, n] = take("cross", target, source)
            if "decoder" in shapes:
                found["decoder", stop, n] = take("decoder", target, target)
    assert left.numel() == 0
    return found


def computed(run: Run, lines: list[str], nbest: int, weights=None) -> list[list[tuple[str, torch.Tensor]]]:
    """The hypotheses of each line and their weights, straight from the model."""
    translator = load_translator(run)
    model, tokenizer = translator.engine.model, translator.tokenizer
    found = translator.translate(lines, nbest)
    if weights is not None:
        checkpoints.load_weights(model, weights, run.path)
    model.eval()
    rows = []
    for source, hypotheses in zip(translator.encode(lines), found, strict=True):
        ids = torch.tensor([[*source, tokenizer.eos_id]])
        with torch.no_grad():
            rows.append(
                [
                    (
                        one.text,
                        model.attention_maps(ids, ids > -1, torch.tensor([[tokenizer.bos_id, *one.tokens]]))[:, 0],
                    )
                    for one in hypotheses
                ]
            )
    return rows


def test_a_page_shows_the_weights_of_its_hypotheses(run, tmp_path, capsys):
    page, file = tmp_path / "page.html", tmp_path / "sentences"
    file.write_text(f"{SOURCES[1]}\n\n{SOURCES[2]}\n")
    capsys.readouterr()
    assert main(["attention", str(run.path), SOURCES[0], "--file", str(file), "-o", str(page)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{page}: 3 sentences, 15 hypotheses, ")
    assert said.endswith(f" kB; open it in a browser: {page.resolve().as_uri()}\n")
    data = data_of(page)
    assert [sentence["text"] for sentence in data["sentences"]] == SOURCES
    for number, hypotheses in enumerate(computed(run, SOURCES, 5)):
        shown = data["sentences"][number]
        assert [output["text"] for output in shown["outputs"]] == [text for text, _ in hypotheses]
        assert shown["words"] == [*SOURCES[number].split(), "</s>"]
        for n, (text, weights) in enumerate(hypotheses):
            found = weights_of(data, number)["cross", 0, n]
            assert found.shape == weights.shape
            assert (found - weights).abs().max() < 1 / 255 + 1e-5
            assert torch.allclose(found.sum(-1), torch.ones(found.shape[:-1]), atol=1e-5)
            assert shown["outputs"][n]["words"] == [*text.split(), "</s>"]


def test_the_search_can_be_another(trained, tmp_path):
    page, run = tmp_path / "page.html", str(trained["rnn"].path)
    for options, count, about in (
        (["--nbest", "6"], 6, "Recurrent model, en to de, beam 6"),
        (["--beam-size", "2"], 2, "Recurrent model, en to de, beam 2"),
        (["--search", "method=sample"], 1, "Recurrent model, en to de, sample"),
        (["--search", "method=sample", "--nbest", "2"], 2, "Recurrent model, en to de, sample"),
    ):
        assert main(["attention", run, SOURCES[0], *options, "-o", str(page)]) == 0
        data = data_of(page)
        assert (len(data["sentences"][0]["outputs"]), data["model"]) == (count, about)


def test_self_attention_of_a_transformer_is_in_the_page(trained, tmp_path, caplog):
    page = tmp_path / "page.html"
    options = ["--self", "--nbest", "2", "-o", str(page)]
    assert main(["attention", str(trained["transformer"].path), SOURCES[0], *options]) == 0
    data = data_of(page)
    assert data["shapes"] == {"cross": [1, 2], "encoder": [1, 2], "decoder": [1, 2]}
    weights = weights_of(data, 0)
    assert set(weights) == {("encoder", 0, 0), ("cross", 0, 0), ("cross", 0, 1), ("decoder", 0, 0), ("decoder", 0, 1)}
    for found in weights.values():
        assert torch.allclose(found.sum(-1), torch.ones(found.shape[:-1]), atol=1e-5)
    assert "--self" not in caplog.text
    # A recurrent model has none.
    assert main(["attention", str(trained["rnn"].path), SOURCES[0], *options]) == 0
    assert set(data_of(page)["shapes"]) == {"cross"}
    assert "--self: this model has no self-attention" in caplog.text


def test_checkpoints_show_how_attention_was_learned(run, tmp_path):
    page = tmp_path / "page.html"
    assert main(["attention", str(run.path), *SOURCES[:2], "--checkpoints", "-o", str(page)]) == 0
    data = data_of(page)
    assert data["stops"] == ["step 8", "step 16", "step 24", "final model"]
    kept = checkpoints.whole(run.checkpoints, print)
    for stop, weights in enumerate([*(checkpoint.weights for checkpoint in kept), None]):
        for number, [(text, expected)] in enumerate(computed(run, SOURCES[:2], 1, weights)):
            assert [output["text"] for output in data["sentences"][number]["outputs"]] == [text]
            assert (weights_of(data, number)["cross", stop, 0] - expected).abs().max() < 1 / 255 + 1e-5
    maps = [weights_of(data, 0)["cross", stop, 0] for stop in range(4)]
    assert not torch.equal(maps[0], maps[2])


def test_other_methods_stand_beside_attention(run, tmp_path):
    """The bytes of a page with every kind, in their order: shares of gradient and erasure are those of the model."""
    page = tmp_path / "page.html"
    options = ["--self", "--method", "erase", "--method", "norm", "--method", "gradient", "--checkpoints"]
    assert main(["attention", str(run.path), SOURCES[0], *options, "-o", str(page)]) == 0
    data = data_of(page)
    [sentence], shapes = data["sentences"], data["shapes"]
    assert shapes["gradient"] == shapes["erase"] == [1, 1]
    assert shapes["norm"] == shapes["cross"]
    translator = load_translator(run)
    model, tokenizer = translator.engine.model, translator.tokenizer
    [source], target = translator.encode([SOURCES[0]]), sentence["outputs"][0]
    [[best]] = translator.translate([SOURCES[0]])
    expected = explain(model, tokenizer, source, best.tokens, ["gradient", "erase", "norm"])
    found, s, t = zlib.decompress(base64.b64decode(sentence["data"])), len(sentence["pieces"]), len(target["pieces"])
    sizes = {kind: math.prod(shape) for kind, shape in shapes.items()}
    layout = {
        "encoder": sizes.get("encoder", 0) * s * s, "norm": sizes["norm"] * s, "cross": sizes["cross"] * s * t,
        "gradient": s * t, "erase": s * t, "decoder": sizes.get("decoder", 0) * t * (t + 1) // 2,
    }  # fmt: skip
    assert len(found) == len(data["stops"]) * sum(layout.values())
    at = len(found) - sum(layout.values())  # the final model
    for kind, size in layout.items():
        read = torch.tensor(list(found[at : at + size]), dtype=torch.float32) / 255
        if kind in ("gradient", "erase"):
            assert (read.view(t, s) - expected[kind][0, 0]).abs().max() < 1 / 255 + 1e-4
        elif kind == "norm":
            norms = expected["norm"] / expected["norm"].amax(-1, keepdim=True)
            assert (read.view(norms.shape) - norms).abs().max() < 1 / 255
        at += size


def test_an_image_of_a_method(run, tmp_path):
    for method in ("gradient", "erase", "norm"):
        path = tmp_path / f"{method}.png"
        assert main(["attention", str(run.path), SOURCES[0], "--method", method, "-o", str(path)]) == 0
        assert path.read_bytes().startswith(b"\x89PNG")


def test_sentences_may_stand_before_and_after_options(trained, tmp_path):
    page = tmp_path / "page.html"
    words = ["attention", str(trained["rnn"].path), "one", "--nbest", "1", "two", "-o", str(page), "three"]
    assert main(words) == 0
    assert [sentence["text"] for sentence in data_of(page)["sentences"]] == ["one", "two", "three"]


def test_an_image_of_one_sentence(run, tmp_path):
    for name, start in (("map.png", b"\x89PNG"), ("map.svg", b"<?xml"), ("map.pdf", b"%PDF")):
        assert main(["attention", str(run.path), SOURCES[0], "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["c"], 'no sentence; give one or more (nmt attention c "..."), or a file with --file'),
        (["c", "one", " "], "sentence 2 is empty; give a sentence to translate"),
        (["c", "--file", "blank"], "blank: contains no sentences; write one per line"),
        (["c", "--file", "none"], "none: no such file; check the path"),
        (["none", "one"], "none: no such run; runs here: c"),
        (["c", "one", "-o", "folder"], "folder: is a folder; name a file"),
        (
            ["c", "one", "-o", "none/page.html"],
            "none/page.html: cannot be opened: No such file or directory; make the folder none, or name another file",
        ),
        (["c", "one", "-o", "a.xyz"], "a.xyz: .xyz is not an image format that can be written; use .png, .svg or .pdf"),
        (
            ["c", "one", "-o", "file/a.png"],
            "file/a.png: cannot be written: File exists; name another file with -o FILE",
        ),
        (
            ["c", "one", "two", "-o", "a.png"],
            "a.png: an image shows one sentence, not 2; write a page (-o attention.html)",
        ),
        (["c", "one", "--nbest", "2", "-o", "a.png"], "--nbest 2: an image shows one hypothesis; write a page"),
        (["c", "one", "--self", "-o", "a.png"], "--self: an image shows the attention over the source; write a page"),
        (
            ["c", "one", "--method", "norm", "--method", "erase", "-o", "a.png"],
            "--method: an image shows one method, not 2; write a page (-o attention.html)",
        ),
        (["c", "one", "--nbest", "0"], "--nbest 0: must be 1 or more"),
        (
            ["c", "one", "--nbest", "2", "--checkpoints"],
            "--nbest 2: --checkpoints shows one hypothesis; remove --nbest",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(place, capsys, arguments, said):
    Path("folder").mkdir()
    Path("file").touch()
    Path("blank").write_text("\n \n")
    before = place.files()
    assert main(["attention", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith(f"nmt: {said}")
    assert place.files() == before


def test_a_model_without_attention_has_nothing_to_show(task, capsys):
    config = task.config_file("rnn", model={"attention": "none", "d_attention": 256}, train={"max_steps": 2})
    assert main(["train", str(config)]) == 0
    run = str(task.folder / "runs" / "run")
    capsys.readouterr()
    no = "the model has no attention (model.attention: none): nothing to"
    page = str(task.folder / "page.html")
    source = task.folder / "in"
    source.write_text("one\n")
    assert main(["attention", run, "one", "-o", page]) == 2
    assert main(["translate", run, "-i", str(source), "-o", str(task.folder / "o"), "--alignments", page]) == 2
    show, align = capsys.readouterr().err.splitlines()
    assert show == f"nmt: {no} show"
    assert align == f"nmt: {no} align words with"
    assert not Path(page).exists()
    assert main(["attention", run, "one", "--method", "gradient", "-o", page]) == 0  # which needs no attention
    assert set(data_of(Path(page))["shapes"]) == {"gradient"}


# ---------------------------------------------------------------------------------------------------------- alignments


def by_hand(sentence: dict, output: dict, weights: torch.Tensor) -> str:
    """The links of a hypothesis from its weights [H, T, S], word by word, by the documented rule."""
    mean = weights.mean(0)
    links = []
    for target in range(len(output["words"]) - 1):
        rows = [t for t, word in enumerate(output["of"]) if word == target]
        of_words = defaultdict(float)
        for s, word in enumerate(sentence["of"][:-1]):
            of_words[word] += sum(float(mean[t, s]) for t in rows) / len(rows)
        links.append(f"{max(of_words, key=lambda word: of_words[word])}-{target}")
    return " ".join(links)


def test_alignments_follow_the_attention(run, tmp_path):
    page, source, out, links = (tmp_path / name for name in ("page.html", "in", "out", "links"))
    source.write_text("".join(f"{line}\n" for line in [SOURCES[0], "", *SOURCES[1:]]))
    options = ["-i", str(source), "-o", str(out), "--alignments", str(links)]
    assert main(["translate", str(run.path), *options, "--nbest", "2"]) == 0
    found = links.read_text().splitlines()
    assert len(found) == len(out.read_text().splitlines()) == 8
    assert found[2:4] == ["", ""]  # of the blank line
    assert main(["attention", str(run.path), *SOURCES, "--nbest", "2", "-o", str(page)]) == 0
    data = data_of(page)
    expected = [
        by_hand(sentence, output, computed(run, SOURCES, 2)[number][n][1][-1])
        for number, sentence in enumerate(data["sentences"])
        for n, output in enumerate(sentence["outputs"])
    ]
    assert [*found[:2], *found[4:]] == expected
    for line, text in zip(found, out.read_text().splitlines(), strict=True):
        assert len(line.split()) == len(text.split())
    # One line of a file in JSON has the alignments of its hypotheses
    assert main(["translate", str(run.path), *options, "--nbest", "2", "--jsonl"]) == 0
    assert links.read_text().splitlines() == [*found[:2], "", *found[4:]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--alignment-layer", "1"], "--alignment-layer: needs --alignments FILE"),
        (["--alignments", "o"], "--alignments o: the translations are written there; name another file"),
        (["--alignments", "a", "--engine", "ctranslate2"], "--alignments: --engine ctranslate2 gives no attention"),
        (["--alignments", "a", "--alignment-layer", "2"], "--alignment-layer 2: the model has 1 layer of attention"),
        (
            ["--alignments", "none/a"],
            "none/a: cannot be opened: No such file or directory; make the folder none, or name another file",
        ),
    ],
)
def test_alignments_that_cannot_be_made(place, capsys, options, said):
    Path("in").write_text("one\n")
    assert main(["translate", "c", "-i", "in", "-o", "o", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"nmt: {said}")
    assert not Path("a").exists()


# --------------------------------------------------------------------------------------------------- train.watch


def test_tensorboard_shows_sentences_of_your_choice(trained):
    events = EventAccumulator(str(trained["watching"].tensorboard), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    watched = [name for name in events.Tags()["images"] if name.startswith("attention/watch ")]
    assert watched == [f"attention/watch {n} “{source}”" for n, source in enumerate(SOURCES[:2], 1)]
    for name in (*watched, next(name for name in events.Tags()["images"] if name.startswith("attention/1 “"))):
        assert [image.step for image in events.Images(name)] == [8, 16, 24]
    texts = events.Tensors("watch/text_summary")
    assert [text.step for text in texts] == [8, 16, 24]
    assert "seven six &lt;b&gt;five&lt;/b&gt; four" in texts[0].tensor_proto.string_val[0].decode()


def test_watching_changes_no_training(trained):
    """The same weights and validations, to the bit."""
    one, other = (trained[name] for name in ("rnn", "watching"))
    assert same(*(checkpoints.read_model(run.model)[0] for run in (one, other)))
    scores = [
        [{key: value for key, value in row.items() if key.startswith("valid/")} for row in validations(run)]
        for run in (one, other)
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3
