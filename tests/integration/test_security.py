"""Each promise of SECURITY.md, tried."""

import ast
import gzip
import io
import json
import pickle
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from nmt.cli import main
from nmt.config.load import load_config
from nmt.data.prepare import prepare_corpus
from nmt.errors import DataError
from nmt.run import checkpoint as checkpoints
from nmt.storage.atomic import seal

ROOT = Path(__file__).parents[2]


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self):
        return open, ("executed", "w")


@pytest.fixture(autouse=True)
def nothing_executed(place):
    """Code of ours that was run by anything a test hands over leaves the file ``executed`` somewhere."""
    yield
    assert not list(place.path.parent.rglob("executed"))


def test_the_bomb_works(place):
    pickle.loads(pickle.dumps(Bomb())).close()
    assert Path("executed").exists()
    Path("executed").unlink()


@pytest.mark.parametrize(
    "tag", ["object/apply:os.system", "object/new:subprocess.Popen", "name:os.system", "module:os"]
)
def test_configurations_construct_no_objects(place, tag):
    line = f"seed: !!python/{tag} ['touch executed']\n"
    place.write("c.yaml", (place.path / "c.yaml").read_bytes() + line.encode())
    assert main(["config", "c.yaml"]) == 2
    assert main(["config", "/dev/null", "--set", line.replace("seed: ", "seed=").strip()]) == 2
    path = place.run / "config.yaml"
    path.write_text(path.read_text().replace("seed: 1\n", line))
    assert main(["translate", "c", "-i", "test.src", "-o", "out"]) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"])
def test_checkpoints_are_never_unpickled(place, name):
    """Not even one that somebody took the trouble to give a checksum that fits."""
    for path in checkpoints.list_checkpoints(place.run / "checkpoints"):
        state = checkpoints.open_checkpoint(path).state
        del state["sha256"]
        (path / "state.json").unlink()
        if name != "state.json":
            (path / name).write_bytes(pickle.dumps(Bomb()))
            seal(path, "state.json", state)
        else:
            (path / name).write_bytes(pickle.dumps(Bomb()))
    assert main(["train", "c.yaml", "--set", "train.max_steps=6"]) == 2


@pytest.mark.parametrize(
    "name", ["model/model.safetensors", "model/model.json", "tokenizer/joint.model", "manifest.json"]
)
def test_nothing_else_of_a_run_is_unpickled(place, name):
    (place.run / name).write_bytes(pickle.dumps(Bomb()))
    code = main(["translate", "c", "-i", "test.src", "-o", "out"])
    assert code == 2


@pytest.mark.parametrize("pattern", ["corpus-*/train.arrow", "corpus-*/manifest.json", "encoded-*/*", "tokenizer-*/*"])
def test_the_store_is_never_unpickled(place, pattern):
    for path in (place.path / "store").glob(pattern):
        path.write_bytes(pickle.dumps(Bomb()))
    assert main(["train", "c.yaml", "--set", "name=d"]) == 2


def test_no_code_of_a_dataset_is_run(place):
    """A loading script of the dataset's own name, as the hub once ran them."""
    folder = place.path / "data"
    folder.mkdir()
    (folder / "data.py").write_text("open('executed', 'w')\nclass Data: pass\n")
    (folder / "data.json").write_text('{"en": "x", "de": "y"}\n')
    config = load_config("c.yaml", ["data.train={kind: hub, path: data, split: train}"])
    with suppress(DataError):  # refused or read as data, both are right
        prepare_corpus(config.data)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_archive_is_unpacked_outside_its_folder(place, kind):
    folder = place.path / "data"
    folder.mkdir()
    row = json.dumps({"en": "x", "de": "y"}).encode()
    names = ["../../executed", "../executed", str(place.path / "executed"), "ok.json"]
    if kind == "zip":
        with zipfile.ZipFile(folder / "data.zip", "w") as archive:
            for name in names:
                archive.writestr(name, row)
    else:
        with tarfile.open(folder / "data.tar.gz", "w:gz") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(row)
                archive.addfile(info, io.BytesIO(row))
    config = load_config("c.yaml", ["data.train={kind: hub, path: data, split: train}"])
    with suppress(DataError):  # refused or read as data, both are right
        prepare_corpus(config.data)


def test_a_tar_under_a_gz_name_is_read_as_text_not_unpacked(place):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("executed"), io.BytesIO(b""))
    place.write("a.gz", gzip.compress(buffer.getvalue()))
    assert main(["prepare", "c.yaml", "--set", "data.train={kind: text, src: a.gz, tgt: a.gz}"]) == 2


@pytest.mark.parametrize(
    "name", ["$(touch executed)", "`touch executed`", "; touch executed", "| touch executed", "-rf"]
)
def test_no_shell_sees_a_name(place, name):
    place.write(name, b"one\ntwo\n")
    assert main(["translate", "c", "--input", f"./{name}", "--output", f"./{name}.out"]) == 0
    assert (place.path / f"{name}.out").read_bytes().count(b"\n") == 2
    place.write("d.yaml", (place.path / "c.yaml").read_bytes().replace(b"train.src", f"'{name}'".encode()))
    assert main(["prepare", "d.yaml"]) == 2


@pytest.mark.parametrize("name", ["../d", "/tmp/d", "..", ".", "a/b", "-x", "a\\n"])
def test_names_cannot_leave_their_folder(place, name):
    assert main(["train", "c.yaml", "--set", f'name="{name}"']) == 2
    assert main(["prepare", "c.yaml", "--set", f'data.test={{"{name}": {{kind: demo, part: test}}}}']) == 2


def test_the_source_has_no_way_to_execute_what_it_reads():
    """No eval, exec, pickle, torch.load, shell, or unsafe YAML loader anywhere in the package and the scripts."""
    forbidden = {
        "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "yaml.load", "yaml.unsafe_load",
        "yaml.full_load", "np.load", "pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
    }  # fmt: skip
    for path in [*ROOT.glob("nmt/**/*.py"), *ROOT.glob("scripts/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found: set[str] = set()
            if isinstance(node, ast.Call):
                found = {ast.unparse(node.func)}
                said = {keyword.arg for keyword in node.keywords if ast.unparse(keyword.value) == "True"}
                assert not said & {"shell", "trust_remote_code", "allow_pickle"}, f"{path}:{node.lineno}"
                safe = any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
                safe |= any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
                found -= {"np.load", "torch.load"} if safe else set()  # neither then runs code of the file
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None) or ""}
            assert not found & forbidden, f"{path}:{getattr(node, 'lineno', 0)}: {found & forbidden}"
