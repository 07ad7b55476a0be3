"""Word-level distillation: what is stored, what a training reads of it, and what is refused."""

import contextlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt import pipeline
from nmt.cli import main
from nmt.config.load import load_config
from nmt.data import teacher as module
from nmt.data.batch import collate
from nmt.data.order import TrainingOrder
from nmt.data.reader import Reader
from nmt.data.tagged import TaggedLine
from nmt.data.teacher import Teacher, identity
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.translation.loading import load_translator
from tests.integration.test_mixture import mixed
from tests.runs import train_through_kills

SHORT = {"max_steps": 4, "batch_tokens": 128, "validate_every": 4, "log_every": 2, "ema_decay": None}
BLEU = {"metrics": ["bleu"]}


def word_level(out, *more) -> int:
    return main(["distil", "c", "--word-level", "--out", out, *more])


def prepared(config="c.yaml"):
    loaded = load_config(config)
    return loaded, pipeline.prepare(loaded)


def test_the_most_probable_tokens_of_the_model_are_stored(place, capsys):
    assert word_level("tk", "--top-k", "5") == 0
    config, data = prepared()
    found = Teacher(Path("tk"), identity(data.encoded, data.tokenizer, config.data), Path("store"))
    model = load_translator(Run.open("c")).engine.model.eval()
    train, t = data.encoded.train, data.tokenizer
    for row in (0, 17, len(train) - 1):
        batch = collate([(train.src(row), train.tgt(row))], np.array([row]), t.pad_id, t.bos_id, t.eos_id)
        with torch.inference_mode():
            log_probs = model.project(batch.at_targets(model(*batch.inputs))).log_softmax(-1)
        ids, values = found.read(np.array([row]))
        assert np.allclose(log_probs.topk(5).values, values, atol=4e-3)
        assert np.allclose(log_probs.gather(-1, torch.from_numpy(ids).long()), values, atol=4e-3)
    assert main(["distil", "c", "c", "--word-level", "--top-k", "5", "--out", "two"]) == 0  # the mean of equal models
    twice = Teacher(Path("two"), identity(data.encoded, data.tokenizer, config.data), Path("store"))
    assert np.allclose(twice.read(np.arange(9))[1], found.read(np.arange(9))[1], atol=4e-3)
    size = (Path("tk") / "ids.npy").stat().st_size + (Path("tk") / "log_probs.npy").stat().st_size
    assert size - 256 == 5 * 4 * sum(len(train.tgt(row)) + 1 for row in range(len(train)))


def test_killed_and_resumed_and_shared_is_one_folder(place, monkeypatch, capsys):
    monkeypatch.setattr(module, "BLOCK", 64)
    assert word_level("whole") == 0
    write = module.TeacherWriter.write

    def killed(self, block, pairs):
        if block == 2:
            raise KeyboardInterrupt
        write(self, block, pairs)

    monkeypatch.setattr(module.TeacherWriter, "write", killed)
    with contextlib.suppress(KeyboardInterrupt):
        assert word_level("killed") == 130
    assert not Path("killed").exists()
    monkeypatch.setattr(module.TeacherWriter, "write", write)
    assert word_level("killed", "--shard", "2/2") == 0
    assert not Path("killed").exists()
    assert "left to other shards" in capsys.readouterr().out
    assert word_level("killed", "--shard", "1/2") == 0
    assert word_level("killed") == 0
    assert "was whole already" in capsys.readouterr().out
    assert not list(Path().glob("*.parts"))
    for name in ("starts.npy", "ids.npy", "log_probs.npy", "manifest.json"):
        assert (Path("killed") / name).read_bytes() == (Path("whole") / name).read_bytes(), name
    assert len([*Path("killed").iterdir()]) == 4
    assert word_level("killed", "--top-k", "3") == 2
    assert "killed: exists, and is not of this teacher" in capsys.readouterr().err


def test_batches_of_a_mixture_have_the_rows_of_their_examples(task, capsys, monkeypatch):
    """Any epoch, any order, tags and typos: at each target stand the tokens that were stored of its pair."""
    monkeypatch.chdir(task.folder)
    datasets = ({"weight": 1, "tag": "<a>"}, {"weight": 2, "modifiers": [{"Typos": 0.5}]})
    train = {**SHORT, "max_steps": 1, "validate_every": 1}
    path = mixed(task, "c", "transformer", datasets, tokenizer={"vocab_size": 40}, train=train, evaluation=BLEU)
    assert main(["train", str(path)]) == 0
    assert word_level("tk", "--top-k", "3") == 0
    config, data = prepared(path)
    train, tokenizer = data.encoded.train, data.tokenizer
    found = Teacher(Path("tk"), identity(data.encoded, tokenizer, config.data), Path(config.data.store))
    examples = pipeline.Examples.of(config.data, data.corpus, train, tokenizer, 1)
    for packed, epoch in itertools.product((False, True), (0, 3)):
        reader = Reader(train, tokenizer, data.corpus.part("train"), None, 256, 1, 128, packed, None, examples, found)
        order = TrainingOrder(train, 128, 1, 1, None, reader.packing, None, examples)
        for [rows] in [order.updates(epoch)[i] for i in (0, 5)]:
            batch = reader.read(rows, epoch)
            stored = [found.read(np.array([row])) for row in examples.mixture.rows(rows)]
            targets = np.concatenate([[*train.tgt(row), tokenizer.eos_id] for row in examples.mixture.rows(rows)])
            count = batch.tgt_tokens
            assert batch.targets[:count].tolist() == targets.tolist()
            for part in (0, 1):
                expected = np.concatenate([each[part] for each in stored])
                assert np.array_equal(batch.teacher[part][:count].numpy(), expected)
    # The teacher has read the tags of the sources.
    row = int(examples.mixture.starts[0])
    scorer = pipeline.load_translator(Run.open("c", str(task.folder / "runs")))
    ids = [*tokenizer.tag_ids(["<a>"]), *train.src(row).tolist()]
    assert ids == scorer.encode([TaggedLine.of(data.corpus.part("train").src(train.index(row)), ["<a>"])])[0]
    from nmt.translation.forced import Scorer

    with torch.inference_mode():
        scorer.engine.model.eval()
        log_probs = Scorer(scorer).log_probs([ids], [train.tgt(row).tolist()])[0]
    assert np.allclose(log_probs.topk(3).values, found.read(np.array([row]))[1], atol=4e-3)


@pytest.mark.parametrize(("family", "batching"), [("rnn", "padded"), ("transformer", "packed")])
def test_a_killed_student_resumes_with_the_same_bits(task, family, batching, monkeypatch):
    train = {**SHORT, "batching": batching, "terms": {"distillation": {"from": "tk", "alpha": 0.4, "tail": "class"}}}
    monkeypatch.chdir(task.folder)
    config = task.config(family, "one", train=train, evaluation=BLEU)
    write_random(config, "tk")
    one = pipeline.train(config).run
    other = train_through_kills(task.config(family, "other", train=train, evaluation=BLEU), [1, 3], monkeypatch)
    assert list(differences(one, other)) == []
    rows = [json.loads(line) for line in one.metrics.read_text().splitlines()]
    logged = [row["train/distillation"] for row in rows if "train/distillation" in row]
    assert len(logged) == 2
    assert all(value > 0 for value in logged)


def write_random(config, path) -> None:
    """The folder of a teacher that guesses."""
    data = pipeline.prepare(config)
    train, rng = data.encoded.train, np.random.default_rng(0)
    about = {"teacher": "", "identity": identity(data.encoded, data.tokenizer, config.data)}
    writer = module.TeacherWriter(Path(path), about, train, 3, data.tokenizer.tgt_vocab_size)
    writer.begin()
    for number in range(writer.blocks):
        counts = [len(train.tgt(row)) + 1 for row in writer.rows(number)]
        ids = [np.argsort(rng.random((count, 30)))[:, :3] + 4 for count in counts]
        writer.write(number, [(one, -1.5 - rng.random(one.shape)) for one in ids])
    writer.finish()


def test_a_folder_may_move_but_another_teacher_is_refused_on_resume(place, capsys):
    assert word_level("tk") == 0
    assert word_level("other", "--top-k", "3") == 0
    command = ["train", "c.yaml", "--set", "name=s", "train.max_steps=1", "train.validate_every=1"]
    command.append("evaluation.metrics=[bleu]")
    assert main([*command, "train.terms.distillation.from=tk"]) == 0
    assert main([*command, "train.terms.distillation.from=other"]) == 2
    assert "was made with another teacher" in capsys.readouterr().err
    assert main(command) == 2
    Path("tk").rename("moved")
    assert main([*command, "train.terms.distillation.from=moved"]) == 0


def test_other_data_another_tokenizer_and_damage_are_refused(place, capsys):
    assert word_level("tk") == 0
    command = ["train", "c.yaml", "--set", "name=s", "train.terms.distillation.from=tk"]

    def refused(*more) -> str:
        assert main([*command, *more]) == 2
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("nmt: ")][-1]

    assert "tk: was made with another tokenizer" in refused("tokenizer.vocab_size=38")
    assert "tk: was made of other training data (the number of pairs" in refused("data.cleaning.max_tokens=5")
    assert "no such folder" in refused("train.terms.distillation.from=none")
    assert "was not written by nmt distil" in refused("train.terms.distillation.from=store/" + next(
        path.name for path in Path("store").glob("encoded-*")
    ))  # fmt: skip
    with (Path("tk") / "ids.npy").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff\xff")
    assert "is damaged" in refused()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["tokenizer.sampling={alpha: 0.1}"], "tokenizer.sampling samples other subwords"),
        (["train.bidirectional_epochs=1"], "train.bidirectional_epochs exchanges the sides"),
        (
            ["data.train=[{name: a, source: {kind: tsv, path: x}, modifiers: [{Typos: 0.1}, {UpperCase: 0.1}]}]"],
            "the modifier UpperCase changes targets",
        ),
        (["train.terms.distillation={from: tk, tail: class, temperature: 2.0}"], "temperature: 2.0 has no effect"),
        (["train.terms.distillation.alpha=0.0"], "alpha"),
    ],
)
def test_settings_that_change_the_targets_are_refused(place, changes, message, capsys):
    assert main(["config", "c.yaml", "--set", "train.terms.distillation.from=tk", *changes]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c", "--word-level", "--top-k", "0"], "--top-k 0: must be 1 or more"),
        (["c", "--word-level", "--top-k", "37"], "--top-k 37: must be at most 36"),
        (["c", "--word-level", "--nbest", "2"], "--nbest: has no effect with --word-level"),
        (["--word-level"], "RUN is missing"),
        (["c", "--top-k", "3"], "--top-k: has no effect without --word-level"),
        (["c", "--word-level", "--config", "other.yaml"], "--config: its tokenizer is not that of runs/c"),
        (["c", "--word-level", "--config", "none.yaml"], "none.yaml"),
    ],
)
def test_mistakes_are_one_line(place, arguments, message, capsys):
    place.write("other.yaml", Path("c.yaml").read_bytes().replace(b"vocab_size: 36", b"vocab_size: 38"))
    assert main(["distil", *arguments, "--out", "x"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nmt: ")]
    assert len(error) == 1
    assert message in error[0]


def test_the_data_of_the_student_are_read(place, capsys):
    """A student on fewer pairs than the teacher, with the tokenizer of the teacher."""
    place.write(
        "student.yaml", Path("c.yaml").read_bytes().replace(b"  store:", b"  cleaning: {max_tokens: 5}\n  store:")
    )
    assert word_level("tk", "--config", "student.yaml") == 0
    config, data = prepared("student.yaml")
    assert len(data.encoded.train) < len(prepared()[1].encoded.train)
    found = Teacher(Path("tk"), identity(data.encoded, data.tokenizer, config.data), Path("store"))
    last = len(data.encoded.train) - 1
    assert len(found.read(np.array([last]))[0]) == len(data.encoded.train.tgt(last)) + 1
