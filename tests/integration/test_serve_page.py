"""The page of ``nmt serve`` in a browser; see :mod:`tests.integration.test_attention_page` for what it needs."""

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install -e '.[browser]'")
pytest.importorskip("uvicorn", reason="uvicorn is missing: pip install 'nmt-trainer[serve]'")

from nmt.serve.limits import Limits  # noqa: E402
from tests.integration.test_serve import between, serving  # noqa: E402

expect = playwright.expect


@pytest.fixture(scope="module")
def client(template):
    with serving(template / "runs" / "c", Limits(characters=200)) as started:
        yield started


@pytest.fixture
def visit(chromium, client):
    """Open the page; its script raises nothing, and it asks for nothing but this server."""
    troubles, contexts = [], []

    def opened(width: int = 1280, scheme: str = "light", port: int = client.port, touch: bool = False):
        start, size = f"http://127.0.0.1:{port}/", {"width": width, "height": 844}
        context = chromium.new_context(viewport=size, color_scheme=scheme, has_touch=touch, is_mobile=touch)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("console", lambda found: "Content Security" in found.text and troubles.append(found.text))
        tab.on("request", lambda found: found.url.startswith((start, "data:")) or troubles.append(found.url))
        tab.goto(start)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def target(tab, number: int):
    return tab.locator("#sentences > li").nth(number).locator(".target")


def test_translates_as_you_type_sentence_by_sentence(visit, client):
    tab = visit()
    tab.locator("#text").press_sequentially("One two. Three four!", delay=5)
    expect(tab.locator("#sentences > li")).to_have_count(2)
    expected = client.translate(["One two.", "Three four!"])["translatedText"]
    for number in range(2):
        expect(target(tab, number)).to_have_text(expected[number])
    tab.fill("#text", "")
    expect(tab.locator("#sentences > li")).to_have_count(0)
    expect(tab.locator("#copy")).to_be_disabled()


def test_abbreviations_end_no_sentence(visit):
    tab = visit()
    tab.fill("#text", "Mr. One of the U.S. Army saw J. Two at 5 p.m. on Monday. Three e.g. four. No. Five")
    sources = tab.locator("#sentences .source")
    expect(sources).to_have_count(4)
    assert sources.all_text_contents() == [
        "Mr. One of the U.S. Army saw J. Two at 5 p.m. on Monday.", "Three e.g. four.", "No.", "Five",
    ]  # fmt: skip


def test_another_translation_can_be_chosen_and_copied_with_the_line_breaks(visit, client):
    tab = visit()
    tab.fill("#text", "one two\n\nthree")
    first = client.translate("one two", alternatives=1)
    second = client.translate("three")["translatedText"]
    tab.locator("summary").first.click()
    tab.get_by_role("button", name=first["alternatives"][0], exact=True).first.click()
    expect(target(tab, 0)).to_have_text(first["alternatives"][0])
    tab.click("#copy")
    expect(tab.locator("#copy")).to_have_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == f"{first['alternatives'][0]}\n\n{second}"


def test_attention_under_the_pointer_and_by_the_keyboard(visit, client):
    tab = visit()
    tab.fill("#text", "one two three")
    body = {"q": "one two three", "source": "en", "target": "de", "alternatives": 1}
    weights = client.post(body, "/attention")[1]["sentences"][0]["translations"][0]["weights"]
    words = tab.locator(".target span")
    expect(words.first).to_be_visible()
    shown = "each => each.map(word => Number(word.style.getPropertyValue('--weight')))"
    words.first.hover()
    expect(tab.locator(".source span")).to_have_count(4)
    assert tab.locator(".source span").evaluate_all(shown) == weights[0]
    tab.locator(".target").focus()
    tab.keyboard.press("End")
    expect(words.last).to_have_class("on")
    assert tab.locator(".source span").evaluate_all(shown) == weights[words.count() - 1]
    tab.keyboard.press("Escape")
    assert tab.locator(".source span").evaluate_all(shown) == [0] * 4


def test_attention_under_a_finger(visit):
    tab = visit(390, touch=True)
    tab.fill("#text", "one two three")
    word = tab.locator(".target span").first
    word.tap()
    expect(word).to_have_class("on")
    expect(tab.locator(".source span")).to_have_count(4)


def test_an_error_is_shown_and_goes_away(visit):
    tab = visit()
    tab.fill("#text", "x " * 150)
    expect(tab.locator("#message")).to_contain_text("at most 200 in a request")
    tab.fill("#text", "one")
    expect(tab.locator("#message")).to_have_text("")


def test_text_is_never_markup(visit):
    tab = visit()
    tab.fill("#text", "<img src=x onerror=alert(1)> one")
    expect(tab.locator(".source")).to_have_text("<img src=x onerror=alert(1)> one")
    assert tab.locator("#sentences img").count() == 0


def test_swapping_the_languages_translates_back(visit, client, template, tmp_path):
    tab = visit()
    expect(tab.locator("#swap")).to_be_hidden()  # one direction is served
    run = template / "runs" / "c"
    with serving(run, Limits(), others=[between(run, tmp_path, "de", "en")]) as both:
        tab = visit(port=both.port)
        tab.fill("#text", "one two\n\nthree")
        expect(tab.locator("#sentences > li")).to_have_count(2)
        tab.click("#swap")
        translated = client.translate("one two\n\nthree")["translatedText"]
        expect(tab.locator("#text")).to_have_value(translated)
        expect(tab.locator("#source-name")).to_have_text("German")
        expect(tab.locator("#pair")).to_have_value("1")
        expect(target(tab, 0)).to_have_text(client.translate(translated.split("\n")[0])["translatedText"])
        # Text without a translation stays
        tab.route("**/translate", lambda route: None)
        tab.fill("#text", "four")
        tab.click("#swap")
        expect(tab.locator("#source-name")).to_have_text("English")
        expect(tab.locator("#text")).to_have_value("four")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_fits_the_window_in_light_and_dark(visit, width, scheme):
    tab = visit(width, scheme)
    tab.fill("#text", "one two three " + "x" * 100)
    expect(tab.locator(".target")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 247, 249)", "dark": "rgb(20, 23, 29)"}[scheme]
