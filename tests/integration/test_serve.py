"""``nmt serve``: the interface over HTTP, its limits, hostile requests and the stop."""

import contextlib
import http.client
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nmt.cli import main
from nmt.cli.commands.serve import named_runs
from nmt.cli.searching import load_searching
from nmt.run.directory import Run

pytest.importorskip("uvicorn", reason="uvicorn is missing: pip install 'nmt-trainer[serve]'")
pytest.importorskip("starlette", reason="starlette is missing: pip install 'nmt-trainer[serve]'")

from nmt.serve.app import new_app
from nmt.serve.computing import Workers
from nmt.serve.limits import Limits
from nmt.serve.metrics import Metrics
from nmt.serve.model import Served, Translating
from nmt.serve.server import listen, new_server
from tests.conftest import WORDS

JSON = {"Content-Type": "application/json"}


class Client:
    """A server in a thread of this process."""

    def __init__(self, port: int, model: Served) -> None:
        self.port, self.model = port, model

    def send(self, method: str, path: str, body=None, headers=JSON) -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def post(self, body, path: str = "/translate") -> tuple[int, dict]:
        status, _, answer = self.send("POST", path, json.dumps(body).encode())
        return status, json.loads(answer)

    def translate(self, q, **more):
        status, answer = self.post({"q": q, "source": "en", "target": "de", **more})
        assert status == 200, answer
        return answer


@contextlib.contextmanager
def serving(
    run: Path, limits: Limits, engine: str = "pytorch", others: Sequence[Path] = (), processes: int = 0
) -> Iterator[Client]:
    runs = {each.name: Run.open(str(each)) for each in (run, *others)}
    loaded = {
        name: Translating(each.load_config(), load_searching(each, [], None, 1, "cpu", engine))
        for name, each in runs.items()
    }
    workers, metrics = Workers(loaded, processes, 1) if processes else None, Metrics()
    models = [Served(name, each.load_config(), loaded[name], limits, metrics, workers) for name, each in runs.items()]
    with contextlib.closing(workers) if workers else contextlib.nullcontext(), listen("127.0.0.1", 0) as listener:
        server = new_server(new_app(models, limits, metrics), limits)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield Client(listener.getsockname()[1], models[0])
        finally:
            server.should_exit = True
            thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def run(template) -> Path:
    return template / "runs" / "c"


@pytest.fixture(scope="module")
def client(run) -> Iterator[Client]:
    with serving(run, Limits(characters=1000, lines=50, seconds=20, reading=1.0, queue=100)) as started:
        yield started


@pytest.fixture(scope="module")
def lines() -> list[str]:
    words = list(WORDS)
    return [" ".join(words[(n + k) % 7] for k in range(1 + n % 6)) for n in range(48)]


@pytest.fixture(scope="module")
def expected(run, lines, tmp_path_factory) -> list[list[str]]:
    """Two translations of each line, by ``nmt translate``."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "in").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert main(["translate", str(run), "-i", str(folder / "in"), "-o", str(folder / "out"), "--nbest", "2"]) == 0
    found = (folder / "out").read_text(encoding="utf-8").splitlines()
    return [found[2 * n : 2 * n + 2] for n in range(len(lines))]


# ------------------------------------------------------------------------------------------------------- the interface


def test_shape_of_one_text_and_of_a_list(client, lines, expected):
    one = client.translate(lines[3])
    [warning] = one.pop("warnings")  # the model is hardly trained
    assert warning.startswith("translation reached its length limit, it may be cut (")
    assert one == {"translatedText": expected[3][0]}
    several = client.translate([lines[3], "", lines[5]], alternatives=1, format="text", api_key="")
    assert several["translatedText"] == [expected[3][0], "", expected[5][0]]
    assert several["alternatives"] == [[expected[3][1]], [""], [expected[5][1]]]
    assert client.translate([]) == {"translatedText": []}
    auto = client.translate(lines[3], source="auto", alternatives=1)
    assert auto["alternatives"] == [expected[3][1]]
    assert auto["detectedLanguage"] == {"language": "en", "confidence": 0}


def test_form(client, lines, expected):
    body = f"q={lines[3].replace(' ', '+')}&source=en&target=de&alternatives=1"
    status, _, answer = client.send("POST", "/translate", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert status == 200
    assert json.loads(answer).items() >= {"translatedText": expected[3][0], "alternatives": [expected[3][1]]}.items()


def test_line_breaks_and_blank_lines_stay(client, lines, expected):
    text = f"\n{lines[1]}\r\n\n  \n{lines[2]}\n"
    assert client.translate(text)["translatedText"] == f"\n{expected[1][0]}\r\n\n  \n{expected[2][0]}\n"


def test_html_keeps_tags_and_translates_text(client, lines, expected):
    text = f'<p class="a">{lines[1]}</p>\n<script>if (a < b) c;</script><!-- x --><ul><li>{lines[2]}<li>&amp;</ul>'
    answer = client.translate([text, ""], format="html", alternatives=1)
    before, after = text.replace(lines[1], "{}").replace(lines[2], "{}"), expected
    assert answer["translatedText"] == [before.format(after[1][0], after[2][0]), ""]
    assert answer["alternatives"][0] == [before.format(after[1][1], after[2][1])]
    tags = client.translate("one <b>two</b> &lt; {x} <i>three</i>.", format="html", protect=True)["translatedText"]
    assert re.findall(r"<[^>]*>|\{x\}", tags).count("{x}") == 1
    assert re.findall(r"<[^>]*>", tags) == ["<b>", "</b>", "<i>", "</i>"]


def test_placeholders_and_sentences(client, lines, expected):
    text = "one {name} two %s\n7 three"
    for protect in (True, "true", ["variables", "numbers"], "variables,numbers"):
        first, second = client.translate(text, protect=protect)["translatedText"].split("\n")
        assert (first.count("{name}"), first.count("%s"), second.count("7")) == (1, 1, 1)
    assert client.translate(lines[1], protect=True)["translatedText"] == expected[1][0]
    assert client.translate(f"{lines[1]}.  One", split=True, protect=False)["translatedText"].count("  ") == 1


def test_concurrent_requests_equal_the_batch_command(client, lines, expected):
    order = [n % len(lines) for n in range(3 * len(lines))]
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda n: client.translate(lines[n], alternatives=n % 2), order))
    assert [each["translatedText"] for each in found] == [expected[n][0] for n in order]
    assert [each.get("alternatives") for each in found] == [[expected[n][1]] if n % 2 else None for n in order]
    metrics = client.send("GET", "/metrics")[2].decode()
    alone = int(re.search(r'nmt_batch_lines_bucket\{model="c",le="1"\} (\d+)', metrics)[1])
    batches = int(re.search(r'nmt_batch_lines_count\{model="c"\} (\d+)', metrics)[1])
    assert alone < batches  # some were translated together


def test_processes_give_the_same_answers(run, lines, expected):
    """Lines, attention (which hooks into the modules of a model) and tags (placed by attention), by two processes."""
    attention = {"q": lines[5], "source": "en", "target": "de", "alternatives": 1}
    tagged = {"q": "one <b>two three</b> four", "protect": True}
    with serving(run, Limits()) as client:
        alone = client.post(attention, "/attention"), client.translate(**tagged)
    with serving(run, Limits(), processes=2) as client, ThreadPoolExecutor(24) as pool:
        rounds = [
            [pool.submit(client.translate, line) for line in lines]
            + [pool.submit(client.post, attention, "/attention"), pool.submit(client.translate, **tagged)]
            for _ in range(3)
        ]
        for *plain, attended, kept in rounds:
            assert [each.result()["translatedText"] for each in plain] == [each[0] for each in expected]
            assert (attended.result(), kept.result()) == alone
        assert client.translate("x " * 300)["warnings"]


def test_a_process_that_is_killed_is_reported(run, caplog):
    with serving(run, Limits(), processes=2) as client:
        assert client.send("GET", "/health")[0] == 200
        assert client.model.workers is not None
        for worker in client.model.workers.all[:]:
            worker.process.kill()
            worker.process.join(10)
        assert client.send("GET", "/health")[0] == 503
        for _ in range(3):
            assert client.post(GOOD)[0] == 500
        assert "a process that translates has ended (exit code -9)" in caplog.text
        status, answer = client.post(GOOD)
        assert (status, answer["error"]) == (500, "this text cannot be translated; the server's log says why")
        assert "no process that translates is left; restart the server" in caplog.text
        assert "Traceback" not in caplog.text


def test_other_paths(client):
    assert json.loads(client.send("GET", "/health")[2]) == {"status": "ok"}
    assert json.loads(client.send("GET", "/languages")[2]) == [
        {"code": "en", "name": "en", "targets": ["de"]},
        {"code": "de", "name": "de", "targets": []},
    ]
    status, headers, page = client.send("GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(rb"(src|href)=\"(?!data:,)", page)
    assert "server" not in headers


def test_openapi_describes_every_path_and_status(client):
    described = json.loads(client.send("GET", "/openapi.json")[2])
    assert set(described["paths"]) == {
        "/", "/translate", "/attention", "/languages", "/health", "/metrics", "/openapi.json",
    }  # fmt: skip
    for path, methods in described["paths"].items():
        for method in methods:
            if method == "get":
                assert client.send("GET", path)[0] == 200
            else:
                assert set(methods[method]["responses"]) == {"200", "400", "408", "413", "500", "503", "504"}
    request = described["components"]["schemas"]["Request"]
    assert request["required"] == ["q", "source", "target"]


def test_attention_of_words_is_a_distribution(client, lines, expected):
    status, answer = client.post({"q": lines[5], "source": "en", "target": "de", "alternatives": 1}, "/attention")
    assert status == 200
    [sentence] = answer["sentences"]
    assert sentence["words"] == [*lines[5].split(), "</s>"]
    assert [each["text"] for each in sentence["translations"]] == expected[5]
    for each in sentence["translations"]:
        assert each["words"] == [*each["text"].split(), "</s>"]
        assert [round(sum(row), 2) for row in each["weights"]] == [1.0] * len(each["words"])
        assert {len(row) for row in each["weights"]} == {len(sentence["words"])}


def test_a_cut_text_is_said(client):
    answer = client.translate("one\n" + " ".join(["one two"] * 100))
    assert any("source cut" in warning and warning.startswith("line 2: ") for warning in answer["warnings"])


# ---------------------------------------------------------------------------------------------------- several runs


def between(run: Path, folder: Path, source: str, target: str) -> Path:
    """A copy of a run that says that it translates between other languages."""
    copy = folder / f"{source}-{target}"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints", ".lock"))
    text = (copy / "config.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^(  src_lang: ).*$", rf"\1{source}", text)
    (copy / "config.yaml").write_text(re.sub(r"(?m)^(  tgt_lang: ).*$", rf"\1{target}", text), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def pairs(run, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pairs")
    return [between(run, folder, *each) for each in (("en", "de"), ("de", "en"), ("fr", "en"))]


def test_the_languages_choose_the_model(pairs, lines, expected):
    with serving(pairs[0], Limits(), others=pairs[1:]) as client:
        assert [(each["code"], each["targets"]) for each in json.loads(client.send("GET", "/languages")[2])] == [
            ("en", ["de"]), ("de", ["en"]), ("fr", ["en"]),
        ]  # fmt: skip
        asked = [("en", "de", 3), ("de", "en", 2), ("fr", "en", 1)]
        with ThreadPoolExecutor(12) as pool:
            sent = [
                (n, pool.submit(client.translate, lines[n], source=source, target=target))
                for source, target, count in asked
                for n in range(count)
            ]
            assert all(answer.result()["translatedText"] == expected[n][0] for n, answer in sent)
        counted = client.send("GET", "/metrics")[2].decode()
        for source, target, count in asked:
            assert f'nmt_lines_total{{model="{source}-{target}"}} {count}\n' in counted
        assert client.translate("one", source="auto")["detectedLanguage"]["language"] == "en"
        status, answer = client.post({"q": "one", "source": "auto", "target": "en"})
        assert (status, answer["error"].endswith("must be one of de, fr")) == (400, True)
        status, answer = client.post({"q": "one", "source": "en", "target": "fr"})
        assert (status, answer["error"]) == (
            400, '"en" to "fr" is not served; served: en to de, de to en, fr to en',
        )  # fmt: skip


def test_runs_that_cannot_be_served_together(pairs, tmp_path, capsys):
    def refused(*runs: Path) -> str:
        assert main(["serve", *map(str, runs), "--port", "0"]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert f"{pairs[0]}: named twice; name each run once" in refused(pairs[0], pairs[1], pairs[0])
    same = between(pairs[0], tmp_path, "en", "de")
    assert f"{pairs[0]} and {same}: both translate en to de; serve one of them" in refused(pairs[0], same)
    damaged = between(pairs[0], tmp_path, "cs", "de")
    (damaged / "model" / "model.safetensors").write_bytes(b"x")
    assert f"{damaged}/model: damaged" in refused(pairs[0], damaged)
    # Metrics tell runs of one name apart
    (tmp_path / "other").mkdir()
    cousin = between(pairs[1], tmp_path / "other", "de", "en").rename(tmp_path / "other" / "en-de")
    assert list(named_runs([str(pairs[0]), str(cousin)])) == [str(pairs[0]), str(cousin)]


# -------------------------------------------------------------------------------------------------------------- limits

GOOD = {"q": "one", "source": "en", "target": "de"}

HOSTILE = {
    "no body": (b"", 400, "not JSON"),
    "bad JSON": (b'{"q": "one", ', 400, "not JSON"),
    "not UTF-8": (b'{"q": "\xff"}', 400, "UTF-8"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), 400, "UTF-8"),
    "nested": (b"[" * 20_000, 400, "nested too deeply"),
    "long number": (b'{"q": ' + b"9" * 20_000 + b"}", 400, "not JSON"),
    "list": (b"[]", 400, "must be an object"),
    "null": (b"null", 400, "must be an object"),
    "no text": ({**GOOD, "q": None}, 400, "q: must be a text"),
    "number": ({**GOOD, "q": 5}, 400, "q: must be a text"),
    "object": ({**GOOD, "q": {"a": 1}}, 400, "q: must be a text"),
    "mixed list": ({**GOOD, "q": ["one", 2]}, 400, "q: must be a text"),
    "nested list": ({**GOOD, "q": [["one"]]}, 400, "q: must be a text"),
    "no target": ({"q": "one", "source": "en"}, 400, "target: must be a language code"),
    "list of sources": ({**GOOD, "source": ["en"]}, 400, "source: must be a language code"),
    "other language": ({**GOOD, "target": "fr"}, 400, "is not served; served: en to de"),
    "path as language": ({**GOOD, "source": "../../etc/passwd"}, 400, "is not served"),
    "long language": ({**GOOD, "source": "x" * 900}, 400, "is not served"),
    "broken language": ({**GOOD, "source": "\ud800\r\nX: y"}, 400, "is not served"),
    "other format": ({**GOOD, "format": "md"}, 400, "must be text or html"),
    "unknown kind": ({**GOOD, "protect": ["names"]}, 400, "protect: must be true, false, or a list of kinds"),
    "kinds of another type": ({**GOOD, "protect": {"a": 1}}, 400, "protect: must be"),
    "split of another type": ({**GOOD, "split": "maybe"}, 400, "split: must be true or false"),
    "list of formats": ({**GOOD, "format": ["text"]}, 400, "format"),
    "too many alternatives": ({**GOOD, "alternatives": 2}, 400, "from 0 to 1"),
    "negative alternatives": ({**GOOD, "alternatives": -1}, 400, "from 0 to 1"),
    "half alternatives": ({**GOOD, "alternatives": 0.5}, 400, "from 0 to 1"),
    "true alternatives": ({**GOOD, "alternatives": True}, 400, "from 0 to 1"),
    "infinite alternatives": (b'{"q":"one","source":"en","target":"de","alternatives":1e999}', 400, "from 0 to 1"),
    "alternatives in Arabic digits": ({**GOOD, "alternatives": "\u0661"}, 400, "from 0 to 1"),
    "long text": ({**GOOD, "q": "x" * 1001}, 413, "1,001 characters; at most 1,000"),
    "long texts": ({**GOOD, "q": ["x" * 600] * 2}, 413, "1,200 characters"),
    "many lines": ({**GOOD, "q": "a\n" * 51}, 413, "51 lines; at most 50"),
    "many texts": ({**GOOD, "q": [""] * 51}, 413, "51 lines; at most 50"),
    "huge body": (b" " * 5_000_000, 413, "too large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_are_refused_in_one_line(client, name):
    body, status, words = HOSTILE[name]
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with contextlib.suppress(ConnectionError):  # the server closes the connection while a huge body is sent
        found, headers, answer = client.send("POST", "/translate", body)
        error = json.loads(answer)["error"]
        assert found == status, error
        assert words in error
        assert "\n" not in error
        assert "Traceback" not in error
        assert len(error) < 300
        assert headers["content-type"] == "application/json"
    assert client.translate("one")["translatedText"]


@pytest.mark.parametrize(
    "q",
    ["\0one", "\ud800", "\udfff\ud800 two", "../../etc/passwd", "\u202e\u200b", "\u200b", "😀" * 100, "<script>", "  "],
)
def test_odd_texts_are_translated(client, q):
    answer = client.translate([q, "one"])
    assert answer["translatedText"][1] == client.translate("one")["translatedText"]
    json.dumps(answer, ensure_ascii=False).encode()
    bad = sum(each == "\0" or "\ud800" <= each <= "\udfff" for each in q)
    assert any("U+FFFD" in each for each in answer.get("warnings", [])) == (bad > 0)
    status, read = client.post({**GOOD, "q": q}, "/attention")
    assert status == 200
    assert len(read["sentences"]) == bool(q.strip())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/translate", 405),
        ("DELETE", "/", 405),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/config.yaml", 404),
        ("GET", "/page.html", 404),
        ("GET", "//etc/passwd", 404),
        ("POST", "/translate/", 404),
        ("GET", "/" + "x" * 9000, 404),
    ],
)
def test_other_paths_and_methods_are_refused(client, method, path, status):
    found, headers, answer = client.send(method, path)
    assert found == status
    assert set(json.loads(answer)) == {"error"}
    assert headers["content-type"] == "application/json"


def raw(client: Client, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send bytes, and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=15) as connection:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        found = b""
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                found += data
        return found


START = b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_a_slow_body_ends_with_408(client):
    answer = raw(client, START + b"Content-Length: 100\r\n\r\n", b'{"q"')
    assert b" 408 " in answer.splitlines()[0]
    assert b"did not arrive within 1 s" in answer


def test_a_body_of_no_known_length_is_bounded(client):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = raw(client, START + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 20)
    assert answer == b"" or b" 413 " in answer.splitlines()[0]
    assert client.translate("one")


@pytest.mark.parametrize("start", [b"", b"POST /trans", START, b"\0\1\2\3\r\n\r\n"])
def test_a_connection_without_a_request_is_closed(client, start):
    started = time.monotonic()
    answer = raw(client, start)
    assert b"Traceback" not in answer
    assert time.monotonic() - started < 10


def test_many_hostile_requests_at_once(client, monkeypatch, caplog):
    """A short form of ``benchmarks/hostile_serve.py``."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    hostile = importlib.import_module("hostile_serve")
    ends, slowest, wrong = hostile.attack_all(client.port, 4 * len(hostile.KINDS), limit=30.0)
    assert wrong == []
    assert slowest < 30
    assert sum(ends.values()) == 56
    assert {"400", "404", "413"} <= ends.keys()
    assert "Traceback" not in caplog.text
    assert client.translate("one")["translatedText"]


def test_no_answer_in_time_and_a_full_queue(run, lines):
    """While the model is busy: 504 after the time, 503 at once beyond the queue; afterwards all is well."""
    with serving(run, Limits(lines=3, seconds=0.5, queue=3)) as client:
        release, entered, answer = threading.Event(), threading.Event(), client.model.batcher.answer

        def slow(ask, batch):
            entered.set()
            release.wait(20)
            return answer(ask, batch)

        client.model.batcher.answer = slow
        with ThreadPoolExecutor(4) as pool:
            busy = pool.submit(client.post, GOOD)
            assert entered.wait(10)
            waiting = pool.submit(client.post, {**GOOD, "q": ["one", "two", "three"]})
            while len(client.model.batcher.jobs) < 3:
                time.sleep(0.005)
            status, headers, full = client.send("POST", "/translate", json.dumps(GOOD).encode())
            assert (status, headers["retry-after"]) == (503, "1")
            assert "3 lines are waiting" in json.loads(full)["error"]
            assert {busy.result()[0], waiting.result()[0]} == {504}
            assert "no answer within 0.5 s" in busy.result()[1]["error"]
            release.set()
        while client.model.batcher.jobs:
            time.sleep(0.005)
        assert client.post(GOOD)[0] == 200


def test_a_failure_is_one_line_without_a_traceback(run, caplog):
    with serving(run, Limits()) as client:
        answer = client.model.batcher.answer

        def failing(ask, batch):
            if any("bad" in line for line in batch):
                raise RuntimeError("/secret/path\nbroken")
            return answer(ask, batch)

        client.model.batcher.answer = failing
        status, found = client.post({**GOOD, "q": "bad"})
        assert status == 500
        assert found == {"error": "this text cannot be translated; the server's log says why"}
        assert "RuntimeError: /secret/path broken" in caplog.text
        assert "Traceback" not in caplog.text
        assert client.post(GOOD)[0] == 200


def test_ctranslate2_gives_the_same_translations(task, lines):
    pytest.importorskip("ctranslate2", reason="ctranslate2 is missing: pip install ctranslate2")
    assert main(["train", str(task.config_file("transformer"))]) == 0
    run = task.folder / "runs" / "run"
    with serving(run, Limits()) as client:
        expected = client.translate(lines)["translatedText"]
    with serving(run, Limits(), "ctranslate2") as client:
        with ThreadPoolExecutor(8) as pool:
            assert [each["translatedText"] for each in pool.map(client.translate, lines)] == expected
        status, answer = client.post(GOOD, "/attention")
        assert status == 400
        assert "gives no attention" in answer["error"]


# --------------------------------------------------------------------------------------------------------- the program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_is_in_flight(run, lines, number):
    """Requests that were sent before the signal, which all processes get, are answered; the program ends with 0."""
    command = [sys.executable, "-m", "nmt", "serve", str(run), "--port", "0", "--gather", "1500"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r":(\d+): ready", line)))
        client = Client(port, None)  # type: ignore[arg-type]
        with ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(client.post, {**GOOD, "q": line}) for line in lines[:8]]
            time.sleep(0.5)  # the lines wait for others now
            os.killpg(process.pid, number)
            assert [each.result()[0] for each in sent] == [200] * 8
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "Traceback" not in rest
    with pytest.raises(ConnectionError):
        client.post(GOOD)


def test_the_processes_end_when_the_server_is_killed(run):
    """All processes have this end of the pipe for errors: it closes when the last of them has ended."""
    command = [sys.executable, "-m", "nmt", "serve", str(run), "--port", "0", "--workers", "3"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(": ready" in line for line in process.stderr)
        process.kill()
        with ThreadPoolExecutor(1) as pool:
            assert "Traceback" not in pool.submit(process.stderr.read).result(20)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "0"], "--workers 0: must be from 1 to 64"),
        (["--port", "70000"], "--port 70000: must be from 0 to 65,535"),
        (["--timeout", "nan"], "--timeout nan: must be from 0.1"),
        (["--queue", "0"], "--queue 0: must be from 1"),
        (["--max-lines", "2000"], "must be at most --queue (1000)"),
        (["--beam-size", "0"], "--beam-size 0: must be 1 or more"),
        (["--host", "no such host"], "no such host, port 5000: cannot listen there"),
        (["--host", "192.0.2.1"], "192.0.2.1, port 5000: cannot listen there"),
    ],
)
def test_mistakes_end_in_one_line(run, capsys, arguments, words):
    assert main(["serve", str(run), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_used_port(run, capsys):
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(run), "--port", port]) == 2
        assert "cannot listen there: Address already in use; choose --host and --port" in capsys.readouterr().err
