"""The page of ``nmt attention`` in a browser: Chromium, driven without a window.

It needs the package playwright (``pip install -e '.[browser]'``) and Chromium, either installed in the system or by
``playwright install chromium``.
"""

import re
import struct
from pathlib import Path

import pytest
import torch

from nmt.cli import main
from nmt.insight.attention import Maps, merged
from nmt.insight.page import Output, Sentence, Side, page_text
from tests.conftest import Task

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install -e '.[browser]'")

expect = playwright.expect

HOSTILE = '</script><img src=x onerror="document.title=1"> <script>document.title=2</script> &amp;'
ARABIC = "ذهب الولد إلى New York صباح اليوم"
CHINESE = "今天早上我们在图书馆里学习注意力"


@pytest.fixture
def visit(chromium):
    """Open a page; at the end it has made no request, and its script has raised nothing."""
    troubles, contexts = [], []

    def opened(path: Path, part: str = "", **settings):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("console", lambda message: message.type == "error" and troubles.append(message.text))
        tab.on("dialog", lambda dialog: troubles.append(dialog.message))
        tab.on("request", lambda request: request.url.split(":")[0] in ("file", "blob") or troubles.append(request.url))
        tab.goto(path.as_uri() + part)
        tab.wait_for_selector("#rows div")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def shown(tab) -> tuple[list[str], list[str], torch.Tensor]:
    """Labels and weights of the map on the screen."""
    rows, columns, weights = tab.evaluate("() => { const m = readMap(); return [m.rows, m.columns, [...m.weights]]; }")
    return rows, columns, torch.tensor(weights, dtype=torch.float32).view(len(rows), len(columns))


def side(text: str, pieces: list[str] | None = None) -> Side:
    """Two subwords for a word of more than four letters; or the given ones, of one word."""
    if pieces is not None:
        return Side.of(text, pieces, [0] * len(pieces))
    cut = [(n, part) for n, word in enumerate(text.split()) for part in filter(None, (f"▁{word[:4]}", word[4:]))]
    return Side.of(text, [part for _, part in cut], [n for n, _ in cut])


def made(source: Side, texts: list[str], stops: int = 1) -> Sentence:
    """Random weights of 2 layers and 3 heads."""
    torch.manual_seed(len(texts))

    def weights(rows: int, columns: int) -> torch.Tensor:
        return (3 * torch.randn(2, 3, rows, columns)).softmax(-1)

    outputs, s = [], len(source.pieces)
    for n, text in enumerate(texts):
        target = side(text)
        t = len(target.pieces)
        own = torch.randn(2, 3, t, t).masked_fill(torch.ones(t, t).triu(1).bool(), -torch.inf).softmax(-1)
        maps = [Maps(weights(t, s), {"encoder": weights(s, s), "decoder": own}) for _ in range(stops)]
        outputs.append(Output(text, -0.5 - n, target, maps))
    names = [f"translation {n}" for n in range(stops)] if stops > 1 else []
    return Sentence(" ".join(source.words[:-1]), source, outputs, names)


@pytest.fixture(scope="module")
def sentences() -> list[Sentence]:
    long = " ".join(f"word{n}" for n in range(150))
    return [
        made(side("unbelievable stories of a snowsuit"), ["unglaubliche Geschichten vom Schneeanzug", "Geschichten"]),
        made(side(HOSTILE), [HOSTILE]),
        made(side(ARABIC), ["Der Junge ging nach New York"]),
        made(side(CHINESE, [f"▁{CHINESE[0]}", *CHINESE[1:]]), ["This morning we studied"]),
        made(side(long), [long]),
    ]


@pytest.fixture(scope="module")
def page(sentences, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page_text("demo", "Transformer", ("en", "de"), [], sentences), encoding="utf-8")
    return path


def near(found: torch.Tensor, expected: torch.Tensor, summed: int = 1) -> bool:
    """Equal but for the rounding of each of ``summed`` weights."""
    return bool((found - expected).abs().max() < summed / 255 + 1e-4)


# ------------------------------------------------------------------------------------------------------------- weights


def test_words_layers_and_heads_are_those_of_the_maps(visit, page, sentences):
    tab = visit(page)
    output, source = sentences[0].outputs[0], sentences[0].side
    weights = output.maps[0].cross
    rows, columns, found = shown(tab)
    assert (rows, columns) == (output.side.words, source.words)
    assert near(found, merged(weights.mean((0, 1)), output.side.word_of, source.word_of), 3)
    assert torch.allclose(found.sum(-1), torch.ones(len(rows)), atol=1e-4)
    tab.click('#units [data-value="pieces"]')
    rows, columns, found = shown(tab)
    assert (rows, columns) == (output.side.pieces, source.pieces)
    assert near(found, weights.mean((0, 1)))
    tab.click('[aria-label="Layer 2, head 3"]')
    assert tab.text_content("#maptitle") == "Layer 2, head 3"
    assert near(shown(tab)[2], weights[1, 2])
    tab.click('[aria-label="Layer 1, mean of 3 heads"]')
    assert near(shown(tab)[2], weights[0].mean(0))
    assert tab.locator("#thumbs [role=radio]").count() == 1 + 2 * 4


def test_self_attention_has_its_own_axes(visit, page, sentences):
    tab = visit(page)
    output, source = sentences[0].outputs[0], sentences[0].side
    tab.click("text=Within the source")
    rows, columns, found = shown(tab)
    assert rows == columns == source.words
    assert near(found, merged(output.maps[0].self_maps["encoder"].mean((0, 1)), source.word_of, source.word_of), 3)
    tab.click("text=Within the translation")
    rows, columns, found = shown(tab)
    assert (rows, columns) == (output.side.words, ["<s>", *output.side.words[:-1]])
    read = [0, *(word + 1 for word in output.side.word_of[:-1])]
    assert near(found, merged(output.maps[0].self_maps["decoder"].mean((0, 1)), output.side.word_of, read), 3)


def test_a_hypothesis_is_shown_with_its_weights(visit, page, sentences):
    tab = visit(page)
    tab.locator("#outputs button").nth(1).click()
    output = sentences[0].outputs[1]
    assert shown(tab)[0] == output.side.words
    assert tab.locator("#target .token").all_text_contents() == output.side.words
    assert near(
        shown(tab)[2], merged(output.maps[0].cross.mean((0, 1)), output.side.word_of, sentences[0].side.word_of), 3
    )


def test_a_word_shows_its_weights(visit, page):
    tab = visit(page)
    rows, columns, weights = shown(tab)
    word = tab.locator("#target .token").nth(1)
    word.hover()
    best = int(weights[1].argmax())
    detail = tab.text_content("#detail")
    assert detail.startswith(f"{rows[1]} ← {columns[best]} ")
    assert re.search(r"[\d.]+", detail.split(columns[best])[1])[0] == f"{100 * float(weights[1].max()):.0f}"
    assert (
        tab.locator("#source .token").nth(best).get_attribute("data-percent") == f"{100 * float(weights[1, best]):.0f}"
    )
    assert tab.locator("#source .token").nth(best).evaluate("e => getComputedStyle(e).backgroundColor") not in (
        "transparent",
        "rgba(0, 0, 0, 0)",
    )
    # It stays when it was tapped, until Escape
    word.click()
    tab.mouse.move(0, 0)
    assert tab.text_content("#detail") == detail
    tab.mouse.click(5, 5)
    assert tab.text_content("#detail") == "Hover or tap a word."
    word.click()
    tab.keyboard.press("Escape")
    assert tab.text_content("#detail") == "Hover or tap a word."
    # The other way round: what reads a word of the source
    tab.locator("#source .token").nth(2).hover()
    assert tab.text_content("#detail").startswith(f"{columns[2]} → {rows[int(weights[:, 2].argmax())]} ")


def test_the_keyboard_is_enough(visit, page):
    tab = visit(page)
    tab.locator("#target .token").first.focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#target .token.active").text_content() == tab.locator("#target .token").nth(1).text_content()
    tab.keyboard.press("Enter")
    assert tab.locator("#target .token.pinned").count() == 1
    tab.locator("#heat").focus()
    for key in ("Escape", "ArrowDown", "ArrowDown", "ArrowRight"):
        tab.keyboard.press(key)
    assert [tab.text_content(f"#{axis} .on") for axis in ("rows", "columns")] == ["Geschichten", "stories"]
    tab.locator("#thumbs [role=radio]").first.focus()
    tab.keyboard.press("ArrowDown")
    expect(tab.locator("#maptitle")).to_have_text("Layer 1, mean of 3 heads")
    tab.keyboard.press("ArrowRight")
    expect(tab.locator("#maptitle")).to_have_text("Layer 1, head 1")
    assert tab.evaluate("document.activeElement.title") == "Layer 1, head 1"
    tab.locator("#next").focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#sentence")).to_have_value("1")
    expect(tab).to_have_url(re.compile("#s=2&h=1&c=1&k=cross&l=1&a=1$"))


# ---------------------------------------------------------------------------------------------------------------- text


def test_text_of_a_sentence_is_inert(visit, page):
    tab = visit(page, "#s=2")
    assert tab.locator("#source .token").all_text_contents() == [*HOSTILE.split(), "</s>"]
    tab.locator("#target .token").first.hover()
    assert tab.title() == "Attention · demo"
    assert tab.locator("img, iframe, object").count() == 0
    assert tab.locator("script").count() == 2


def test_scripts_that_run_from_the_right_do(visit, page):
    tab = visit(page, "#s=3")
    assert tab.get_attribute("#source", "dir") == "rtl"
    assert tab.get_attribute("#target", "dir") == "ltr"
    boxes = [token.bounding_box()["x"] for token in tab.locator("#source .token").all()]
    words = dict(zip([*ARABIC.split(), "</s>"], boxes, strict=True))
    assert words["ذهب"] > words["الولد"] > words["إلى"] > words["York"] > words["New"] > words["صباح"] > words["</s>"]
    # The axis as well: the first word is on the right
    columns = [label.bounding_box()["x"] for label in tab.locator("#columns div").all()]
    assert columns == sorted(columns, reverse=True)
    tab.locator("#columns div").first.wait_for()
    first = tab.locator("#cells canvas").bounding_box()
    tab.mouse.move(first["x"] + first["width"] - 5, first["y"] + 5)
    assert tab.text_content("#columns .on") == "ذهب"


def test_text_without_spaces_is_shown_in_subwords(visit, page):
    tab = visit(page, "#s=4")
    assert tab.get_attribute('#units [data-value="pieces"]', "aria-checked") == "true"
    assert tab.locator("#source .token").all_text_contents() == [*CHINESE, "</s>"]


# -------------------------------------------------------------------------------------------------------------- screens


def test_a_phone_scrolls_long_sentences_in_their_boxes(visit, page):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
    for number in range(1, 6):
        tab = visit(page, f"#s={number}", **phone)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    # The choice of maps has two columns; the last of an odd number has both.
    first, second, third = (button.bounding_box() for button in tab.locator("#kinds button").all())
    assert (first["y"], first["width"]) == (second["y"], second["width"])
    assert third["y"] > first["y"]
    assert third["width"] == pytest.approx(2 * first["width"] + 1)
    scrolls = "box => [box.scrollWidth > box.clientWidth, box.scrollHeight > box.clientHeight]"
    assert tab.locator("#heat").evaluate(scrolls) == [True, True]
    assert tab.locator("#source").evaluate(scrolls) == [False, True]
    tab.locator("#source .token").nth(2).tap()
    assert tab.text_content("#detail").startswith("word2 → ")
    tab.locator("#source .token").nth(2).tap()
    assert tab.text_content("#detail") == "Hover or tap a word."


@pytest.mark.parametrize(("scheme", "other"), [("light", "Dark"), ("dark", "Light")])
def test_dark_and_light(visit, page, scheme, other):
    tab = visit(page, color_scheme=scheme)

    def brightness() -> int:
        return sum(map(int, re.findall(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))))

    assert (brightness() > 600) is (scheme == "light")
    assert tab.text_content("#theme") == other
    tab.click("#theme")
    assert (brightness() > 600) is (scheme == "dark")


def test_a_map_is_saved_as_png(visit, page):
    tab = visit(page)
    tab.click('[aria-label="Layer 2, head 3"]')
    with tab.expect_download() as download:
        tab.click("#save")
    assert download.value.suggested_filename == "attention-demo-1-cross-layer2-head3.png"
    picture = Path(download.value.path()).read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    rows, columns, _ = shown(tab)
    assert width > 2 * 34 * len(columns)
    assert height > 2 * 34 * len(rows)


def test_a_slider_goes_through_the_training(visit, tmp_path):
    source = side("unbelievable stories")
    one = made(source, ["unglaubliche Geschichten"], stops=3)
    path = tmp_path / "page.html"
    path.write_text(page_text("demo", "", ("en", "de"), ["step 10", "step 20", "final model"], [one]), encoding="utf-8")
    tab = visit(path)
    output = one.outputs[0]
    for stop, name in ((2, "final model"), (0, "step 10"), (1, "step 20")):
        tab.locator("#stop").fill(str(stop))
        expect(tab.locator("#stopname")).to_have_text(name)
        assert tab.text_content("#attempt") == f"translation {stop}"
        assert near(shown(tab)[2], merged(output.maps[stop].cross.mean((0, 1)), output.side.word_of, source.word_of), 3)


def test_hops_of_local_attention(visit, tmp_path):
    """Two hops of one head each, whose rows sum to a half."""
    source, target = side("a few words"), side("einige")
    weights = (torch.randn(2, 1, len(target.pieces), len(source.pieces))).softmax(-1) / 2
    one = Sentence("a few words", source, [Output("einige", -1.0, target, [Maps(weights)])], [])
    path = tmp_path / "page.html"
    path.write_text(page_text("demo", "Recurrent model", ("en", "de"), [], [one], "hop"), encoding="utf-8")
    tab = visit(path)
    assert tab.text_content("#sums") == "rows sum to 1 or less"
    assert tab.text_content("#maptitle") == "Mean of 2 hops"
    tab.click('[aria-label="Hop 2"]')
    assert near(shown(tab)[2], merged(weights[1, 0], target.word_of, source.word_of), 3)
    assert tab.text_content("#choice") == "Hops"


@pytest.mark.parametrize("family", ["rnn", "transformer"])
def test_pages_of_trained_runs(visit, tmp_path, family):
    """A hundred sentences with five hypotheses each."""
    task = Task(tmp_path)
    config = task.config_file(family, train={"max_steps": 4}, search={"beam_size": 5})
    assert main(["train", str(config)]) == 0
    file, path = tmp_path / "in", tmp_path / "page.html"
    file.write_text("".join(line + "\n" for line in task.paths["train.src"].read_text().splitlines()[:100]))
    run = str(tmp_path / "runs" / "run")
    assert main(["attention", run, "--file", str(file), "--self", "-o", str(path)]) == 0
    assert path.stat().st_size < 5e6
    tab = visit(path)
    assert tab.locator("#sentence option").count() == 100
    tab.select_option("#sentence", "99")
    expect(tab).to_have_url(re.compile("#s=100&"))
    assert tab.locator("#outputs button").count() == 5
    tab.click('#units [data-value="words"]')
    rows, columns, weights = shown(tab)
    assert torch.allclose(weights.sum(-1), torch.ones(len(rows)), atol=1e-4)
    assert columns == [*file.read_text().splitlines()[99].split(), "</s>"]
    assert tab.locator("#kinds button").count() == (3 if family == "transformer" else 1)
    assert tab.locator("#thumbs button").count() == (3 if family == "transformer" else 0)


# ------------------------------------------------------------------------------------------------------- other methods


def test_other_methods_stand_beside_attention(visit, tmp_path):
    """Shares by gradient and erasure, and the products of weights and norms, of the second hypothesis."""
    one = made(side("unbelievable stories of a snowsuit"), ["unglaubliche Geschichten", "Geschichten vom Schneeanzug"])
    torch.manual_seed(5)
    norms, s = torch.rand(2, 3, len(one.side.pieces)), len(one.side.pieces)
    for output in one.outputs:
        shape = 1, 1, len(output.side.pieces), s
        output.maps[0].methods.update(
            gradient=torch.rand(shape).softmax(-1), erase=(4 * torch.rand(shape)).softmax(-1), norm=norms
        )
    path = tmp_path / "page.html"
    path.write_text(page_text("demo", "Transformer", ("en", "de"), [], [one]), encoding="utf-8")
    tab, output = visit(path, "#h=2&k=gradient"), one.outputs[1]
    merge = output.side.word_of, one.side.word_of
    assert tab.inner_text("#kinds").split("\n")[-3:] == ["Gradient", "Erasure", "Norms"]
    for kind in ("gradient", "erase"):
        tab.click(f'#kinds button:text-is("{ {"gradient": "Gradient", "erase": "Erasure"}[kind] }")')
        assert near(shown(tab)[2], merged(output.maps[0].methods[kind][0, 0], *merge), 3)
        assert tab.inner_text("#maptitle") == {"gradient": "Gradient", "erase": "Erasure"}[kind]
    # Norms have the layers and heads of attention; a word that is kept stays kept
    tab.click("#target .token >> nth=1")
    tab.click('#kinds button:text-is("Norms")')
    assert "vom" in tab.inner_text("#detail")
    products = output.maps[0].cross * norms[:, :, None]
    shares = products / products.sum(-1, keepdim=True)
    for layer, head, expected in ((-1, -1, shares.mean((0, 1))), (1, 2, shares[1, 2]), (0, -1, shares[0].mean(0))):
        tab.evaluate(f"() => change({{layer: {layer}, head: {head}}})")
        tab.wait_for_function(f"() => state.layer === {layer}")
        assert near(shown(tab)[2], merged(expected, *merge), 6)
    tab.click('#kinds button:text-is("Within the source")')  # other rows: nothing is kept
    assert tab.inner_text("#detail") == "Hover or tap a word."
    tab.click('#kinds button:text-is("Over the source")')
    assert near(shown(tab)[2], merged(output.maps[0].cross.mean((0, 1)), *merge), 3)
