"""The translator around a toy that copies its source, letter by letter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nmt.config.search import SearchConfig
from nmt.errors import ConfigError
from nmt.models.seq2seq import Memory, Seq2Seq
from nmt.translation.pytorch import TorchEngine
from nmt.translation.translator import Notice, Notices, Translation, Translator

PAD, BOS, EOS, UNK = range(4)
LETTERS = "abcdefghijklmnopqrstuvwxyz\n\r "
EMPTY = [Translation("", 0.0, 0.0, [])]


class Letters:
    """A tokenizer of letters; drops what it does not know."""

    pad_id, bos_id, eos_id, unk_id = PAD, BOS, EOS, UNK
    src_vocab_size = tgt_vocab_size = 4 + len(LETTERS)

    def encode_src(self, lines: list[str]) -> list[list[int]]:
        return [[4 + LETTERS.index(letter) for letter in line if letter in LETTERS] for line in lines]

    def decode(self, ids: list[list[int]]) -> list[str]:
        return ["".join(LETTERS[i - 4] for i in line) for line in ids]


@dataclass
class CopyState:
    src: Tensor  # [N, S]
    position: int

    def select(self, rows: Tensor) -> CopyState:
        return CopyState(self.src[rows], self.position)


class Copier(Seq2Seq[CopyState]):
    """Likes pad, bos and unk best, which it may not say, then the next letter of the source or its eos."""

    def __init__(self, keeps_going: bool = False) -> None:
        super().__init__()
        self.output = nn.Linear(1, Letters.tgt_vocab_size)
        self.keeps_going = keeps_going
        self.batches: list[tuple[int, int]] = []

    def encode(self, src: Tensor, src_mask: Tensor) -> Memory:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        assert torch.equal(src_mask, src != PAD)
        assert (src[torch.arange(len(src)), src_mask.sum(1) - 1] == EOS).all()
        self.batches.append((src.size(0), src.size(1)))
        return Memory(src, src_mask)

    def decode(self, memory: Memory, tgt_in: Tensor) -> Tensor:
        raise NotImplementedError

    def init_state(self, memory: Memory, beam_size: int = 1) -> CopyState:
        return CopyState(memory.states.repeat_interleave(beam_size, 0), 0)

    def step(self, tokens: Tensor, state: CopyState) -> tuple[Tensor, CopyState]:
        logits = torch.zeros(len(tokens), Letters.tgt_vocab_size)
        logits[:, [PAD, BOS, UNK]] = 9.0
        if self.keeps_going:
            wanted = torch.full_like(tokens, 4)
        else:
            wanted = state.src[:, min(state.position, state.src.size(1) - 1)]
            wanted = torch.where(wanted == PAD, EOS, wanted)
        logits[torch.arange(len(tokens)), wanted] = 8.0
        return logits, CopyState(state.src, state.position + 1)

    def attention_maps(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> None:
        return None


def translator(model: Copier | None = None, **search: Any) -> Translator[TorchEngine]:
    tokenizer: Any = Letters()
    settings = SearchConfig(**search)
    engine = TorchEngine(model or Copier(), tokenizer, settings, torch.device("cpu"))
    return Translator(engine, tokenizer, settings)


def texts(results: list[list[Translation]]) -> list[str]:
    return [translations[0].text for translations in results]


def test_order_is_kept_across_batches_of_like_length() -> None:
    lines = ["sentence", "a", "quite long one it is", "bb", "ccc", "a"]
    model = Copier()
    assert texts(translator(model, beam_size=2, batch_tokens=20).translate(lines)) == lines
    # Lengths with eos: 21 (over the budget, so alone), 9, 4, 3, 2, 2; then sentences · 2 · longest <= 20.
    assert model.batches == [(1, 21), (1, 9), (2, 4), (2, 2)]


def test_a_batch_that_does_not_fit_is_halved() -> None:
    class Small(Copier):
        def encode(self, src: Tensor, src_mask: Tensor) -> Memory:
            if len(src) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().encode(src, src_mask)

    model, lines = Small(), list("abcdefg")
    working = translator(model, beam_size=1, batch_tokens=1000)
    searched: list[int] = []
    working.engine.progress = searched.append
    assert texts(working.translate(lines)) == lines
    assert [rows for rows, _ in model.batches] == searched == [1, 2, 2, 2]


def test_blank_lines_never_reach_the_model() -> None:
    model = Copier()
    results = translator(model).translate(["", "ab", " ", "\n", "123"])  # the tokenizer knows no digits
    assert [results[i] for i in (0, 2, 3, 4)] == [EMPTY] * 4
    assert results[1][0].text == "ab"
    assert model.batches == [(1, 3)]


def test_nothing_in_nothing_out() -> None:
    assert translator().translate([]) == []


def test_long_sources_are_cut_and_named() -> None:
    notices: list[Notice] = []
    results = translator(max_source_tokens=3).translate(["abc", "abcdef", "x"], warn=notices.append)
    assert texts(results) == ["abc", "abc", "x"]
    assert list(map(str, notices)) == ["line 2: source cut (6 subwords, search.max_source_tokens is 3)"]
    assert texts(translator(max_source_tokens=3).translate(["abcd"])) == ["abc"]  # warnings are optional


def test_notices_number_lines_from_the_first_line_of_a_block() -> None:
    notices: list[Notice] = []
    translator(max_source_tokens=4).translate(["e", "too long"], warn=notices.append, first_line=3)
    assert [(notice.line, notice.kind) for notice in notices] == [(4, "source cut")]


@pytest.mark.parametrize(("limit", "expected"), [(None, 7), (5, 4), (7, 6), (8, 7), (50, 7)])
def test_length_is_limited_by_the_source_and_the_model(limit: int | None, expected: int) -> None:
    endless = translator(Copier(keeps_going=True), max_length_ratio=1.5, max_length_offset=3)
    endless.max_target_tokens = limit
    notices: list[Notice] = []
    [[found]] = endless.translate(["xyz"], warn=notices.append)
    assert found.text == "a" * expected  # 1.5 · 3 + 3 = 7.5, rounded down
    assert found.at_limit
    reason = "7 subwords: 1.5 times the source and 3" if limit in (None, 50) else f"{expected} subwords, from"
    assert len(notices) == 1
    assert reason in str(notices[0])


def test_a_translation_within_its_limit_is_not_named() -> None:
    notices: list[Notice] = []
    [[found]] = translator(max_length_ratio=1.0, max_length_offset=1).translate(["xyz"], warn=notices.append)
    assert found.text == "xyz"
    assert not found.at_limit
    assert notices == []


def test_a_line_without_end_is_cut_before_it_is_encoded() -> None:
    class Watching(Letters):
        def encode_src(self, lines: list[str]) -> list[list[int]]:
            lengths.extend(map(len, lines))
            return super().encode_src(lines)

    lengths: list[int] = []
    notices: list[Notice] = []
    working = translator(max_source_tokens=3)
    working.tokenizer = Watching()  # type: ignore[assignment]
    lines = ["abcdef" * 100_000, "1" * 1_000_000, "abc"]  # the tokenizer knows no digits
    assert texts(working.translate(lines, warn=notices.append)) == ["abc", "", "abc"]
    assert max(lengths) <= 64 * 3
    assert [(notice.line, notice.kind) for notice in notices] == [(1, "source cut"), (2, "source cut")]


def test_notices_of_a_document_number_paragraphs() -> None:
    told: list[str] = []
    notices = Notices(told.append, unit="paragraph")
    for number in (1, 2):
        notices(Notice(number, "source cut", "why"))
    notices.close()
    assert told == [
        "warning: paragraph 1: source cut (why)",
        "warning: paragraph 2: source cut (why)",
        "warning: 2 paragraphs: source cut",
    ]


def test_many_notices_of_a_kind_are_counted() -> None:
    told: list[str] = []
    notices = Notices(told.append, most=2)
    for line in range(1, 5):
        notices(Notice(line, "source cut", f"{line} subwords"))
    notices(Notice(9, "other", "once"))
    notices.close()
    assert told == [
        "warning: line 1: source cut (1 subwords)",
        "warning: line 2: source cut (2 subwords)",
        "warning: line 9: other (once)",
        "warning: 4 lines: source cut",
    ]


def test_scores_and_tokens_belong_to_the_text() -> None:
    [[best, second]] = translator(beam_size=3, length_penalty="average").translate(["cab"], nbest=2)
    assert best.tokens == [6, 4, 5]
    assert best.score == pytest.approx(best.log_prob / 4)  # three letters and eos
    assert best.score > second.score
    assert not {PAD, BOS, UNK} & {*best.tokens, *second.tokens}  # though the model likes them best


def test_output_is_one_line() -> None:
    model, tokenizer = Copier(), Letters()
    assert tokenizer.encode_src(["a\n\rb"]) == [[4, 30, 31, 5]]
    assert texts(translator(model).translate(["a\n\rb\n"])) == ["a b"]


def test_more_translations_than_the_beam_holds() -> None:
    with pytest.raises(ConfigError, match=r"3 translations .* from 1 to search\.beam_size \(2\)"):
        translator(beam_size=2).translate(["a"], nbest=3)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_returns_to_its_mode(training: bool) -> None:
    model = Copier().train(training)
    translator(model).translate(["a"])
    assert model.training is training


class Both(Letters):
    """Reads targets, too: what it does not know is unknown."""

    def encode_tgt(self, lines: list[str]) -> list[list[int]]:
        return [[4 + LETTERS.index(letter) if letter in LETTERS else UNK for letter in line] for line in lines]


def with_prefixes(lines: list[str], prefixes: list[str], **search: Any) -> tuple[list[str], list[str]]:
    """Translations of a model that writes letters ``a`` wherever it may, and the notices."""
    working, notices = translator(Copier(keeps_going=True), **search), list[Notice]()
    tokenizer: Any = Both()
    working.tokenizer = working.engine.tokenizer = tokenizer
    found = working.translate(lines, warn=notices.append, prefixes=prefixes)
    return texts(found), [str(notice) for notice in notices if notice.kind == "prefix cut"]


def test_translations_begin_with_their_prefixes() -> None:
    short = {"max_length_ratio": 0.0, "max_length_offset": 3}
    assert with_prefixes(["x", "", "yy", "z"], ["bc", "d", "", "efgh"], **short, max_source_tokens=9) == (
        ["bca", "", "aaa", "efg"], ["line 4: prefix cut (4 subwords, a translation has at most 3)"]
    )  # fmt: skip
    # The limit of a line grows to its prefix.
    ratio = {"max_length_ratio": 1.0, "max_length_offset": 1, "max_source_tokens": 9}
    assert with_prefixes(["x", "yy"], ["bcdef", "b"], **ratio) == (["bcdef", "baa"], [])


def test_a_prefix_is_cut_before_what_the_vocabulary_lacks() -> None:
    short = {"max_length_ratio": 0.0, "max_length_offset": 3}
    assert with_prefixes(["x", "x"], ["b1c", "1"], **short) == (
        ["baa", "aaa"],
        [
            "line 1: prefix cut (the vocabulary has no piece for its subword 2)",
            "line 2: prefix cut (the vocabulary has no piece for its subword 1)",
        ],
    )


def test_precision_is_that_of_autocast() -> None:
    class Watching(Copier):
        def encode(self, src: Tensor, src_mask: Tensor) -> Memory:
            seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
            return super().encode(src, src_mask)

    seen: list[torch.dtype | None] = []
    watched = translator(Watching())
    for precision in (None, torch.bfloat16):
        watched.engine.precision = precision
        watched.translate(["a"])
    assert seen == [None, torch.bfloat16]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(st.text(alphabet=LETTERS + "1\u2028é", max_size=12), max_size=8),
    beam_size=st.integers(1, 3),
    batch_tokens=st.integers(1, 60),
    chunk=st.integers(1, 4),
)
def test_as_many_lines_out_as_in(lines: list[str], beam_size: int, batch_tokens: int, chunk: int) -> None:
    working = translator(beam_size=beam_size, batch_tokens=batch_tokens)
    results = working.translate(lines)
    assert len(results) == len(lines)
    assert all(translations and "\n" not in translations[0].text for translations in results)
    blocks = [lines[start : start + chunk] for start in range(0, len(lines), chunk)]
    assert [found for block in blocks for found in working.translate(block)] == results
