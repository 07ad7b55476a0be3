"""Merging of subwords, rounding, the page and word alignments, against numbers computed by hand."""

import base64
import json
import re
import struct
import zlib

import numpy as np
import pytest
import torch

from nmt.errors import DataError
from nmt.insight import alignment
from nmt.insight.attention import Maps, merged
from nmt.insight.page import Output, Sentence, Side, page_text, quantized

# Source "un believ able </s>" is two words, target "nicht zu glauben </s>" has "glaub en" as one word.
WEIGHTS = torch.tensor([
    [0.5, 0.2, 0.2, 0.1],
    [0.1, 0.3, 0.4, 0.2],
    [0.3, 0.3, 0.3, 0.1],
    [0.1, 0.1, 0.6, 0.2],
])  # fmt: skip


def test_subwords_merge_to_words_as_by_hand():
    """Sum over the source word (columns 1 and 2), mean over the target word (rows 1 and 2)."""
    words = merged(WEIGHTS, [0, 1, 1, 2], [0, 1, 1, 2])
    by_hand = torch.tensor([[0.5, 0.4, 0.1], [0.2, 0.65, 0.15], [0.1, 0.7, 0.2]])
    assert torch.allclose(words, by_hand)
    assert torch.allclose(words.sum(-1), torch.ones(3))


def test_a_word_without_subwords_has_no_weight():
    words = merged(WEIGHTS, [0, 0, 2, 2], [0, 0, 0, 2])
    assert words[:, 1].tolist() == [0.0, 0.0, 0.0]
    assert words[1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("width", [1, 2, 7, 300])
def test_rounded_rows_keep_their_sum(width):
    rng = np.random.default_rng(0)
    weights = rng.dirichlet([0.2] * width, size=(4, 50)).astype(np.float32)
    rounded = quantized(weights)
    assert rounded.dtype == np.uint8
    assert (rounded.sum(-1, dtype=int) == 255).all()
    assert np.abs(rounded / 255 - weights).max() < 1 / 255
    halves = quantized(weights / 2)  # rows that are not distributions
    assert np.abs(halves.sum(-1, dtype=int) - 127.5).max() <= 0.5


def test_weights_that_are_not_numbers_are_refused():
    with pytest.raises(DataError, match="not numbers: the training of this model has diverged"):
        quantized(np.array([[np.nan, 1.0]], dtype=np.float32))


# ------------------------------------------------------------------------------------------------------------ the page


def page_of(*sentences: Sentence, title: str = "run") -> str:
    return page_text(title, "Transformer", ("en", "de"), [], sentences)


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def sentence(source: str, target: str) -> Sentence:
    sides = [
        Side.of(text, [f"▁{word}" for word in text.split()], range(len(text.split()))) for text in (source, target)
    ]
    weights = torch.full((2, 3, len(sides[1].pieces), len(sides[0].pieces)), 1 / len(sides[0].pieces))
    return Sentence(source, sides[0], [Output(target, -0.5, sides[1], [Maps(weights)])], [])


def test_the_bytes_of_a_page_are_rows_of_all_layers_and_heads():
    """An encoder [1, 1, 2, 2], two hypotheses of two and one subwords, in the documented order."""
    encoder = torch.tensor([[[[1.0, 0.0], [0.6, 0.4]]]])
    first = torch.tensor([[[[0.2, 0.8], [1.0, 0.0]], [[0.4, 0.6], [0.0, 1.0]]]])  # [1 layer, 2 heads, 2, 2]
    second = torch.tensor([[[[0.2, 0.8]], [[0.4, 0.6]]]])
    own = torch.tensor([[[[1.0, 0.0], [0.2, 0.8]]]])
    source = Side.of("a", ["▁a"], [0])
    outputs = [
        Output("b", 0.0, Side.of("b", ["▁b"], [0]), [Maps(first, {"encoder": encoder, "decoder": own})]),
        Output("", 0.0, Side.of("", [], []), [Maps(second, {"encoder": encoder, "decoder": own[..., :1, :1]})]),
    ]
    page = data_of(page_of(Sentence("a", source, outputs, [])))
    assert page["shapes"] == {"cross": [1, 2], "encoder": [1, 1], "decoder": [1, 1]}
    found = zlib.decompress(base64.b64decode(page["sentences"][0]["data"]))
    expected = [255, 0, 153, 102, 51, 204, 102, 153, 255, 0, 0, 255, 255, 51, 204, 51, 204, 102, 153, 255]
    assert list(struct.unpack(f"{len(found)}B", found)) == expected


def test_a_hundred_sentences_stay_under_five_megabytes():
    """Beam 5 of a Transformer with 4 layers and 8 heads, 18 subwords per side; hypotheses share nine words."""
    torch.manual_seed(0)
    side = Side.of("word " * 18, ["▁word"] * 18, range(18))
    logits = 2 * torch.randn(4, 8, 19, 19)
    beam = [torch.cat([logits[:, :, :9], 2 * torch.randn(4, 8, 10, 19)], dim=2).softmax(-1) for _ in range(5)]
    one = Sentence("word " * 18, side, [Output("word " * 18, -1.0, side, [Maps(weights)]) for weights in beam], [])
    alone, pair = len(page_of(one).encode()), len(page_of(one, one).encode())
    assert alone + 99 * (pair - alone) < 5e6


@pytest.mark.parametrize(
    "text",
    [
        '</script><img src=x onerror="alert(1)">', "<!--<script>", "]]> & &lt; \u2028\u2029", "PAGE_DATA PAGE_TITLE",
        "\ud800 half of a character", "\\u003c",
    ],
)  # fmt: skip
def test_text_cannot_leave_its_place(text):
    page = page_of(sentence(text, text))
    assert page.count("<script") == page_of(sentence("a", "b")).count("<script")
    assert "<img" not in page
    page.encode()  # no half of a surrogate pair
    found = data_of(page)["sentences"][0]
    assert (found["text"], found["outputs"][0]["text"]) == (text, text)


def test_only_the_script_of_the_page_may_run():
    page = page_of(sentence("a", "b"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "http://" not in page
    assert "https://" not in page


# ---------------------------------------------------------------------------------------------------------- alignments


@pytest.mark.parametrize(
    ("source", "target", "links"),
    [
        ([0, 1, 1], [0, 1, 1], "0-0 1-1"),  # as by hand above, without </s>
        ([0, 1, 2], [0, 1, 2], "0-0 2-1 0-2"),  # equal weights: the first
        ([0, 0, 0], [0, 0, 0], "0-0"),
        ([-1, -1, -1], [0, 1, 2], ""),
        ([0, 1, 2], [-1], ""),
    ],
)
def test_each_output_word_has_a_link_to_its_largest_weight(source, target, links):
    assert alignment._links(WEIGHTS[: len(target), :3], source, target) == links


def test_a_word_that_attends_to_the_end_alone_has_no_link():
    assert alignment._links(torch.tensor([[0.0, 0.0], [0.0, 0.1]]), [0, 1], [0, 1]) == "1-1"
