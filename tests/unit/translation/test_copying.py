"""Unknown words copied by attention, with a model that says and attends to what a test tells it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nmt.config.data import DataConfig
from nmt.config.search import SearchConfig
from nmt.config.tokenizer import TokenizerConfig
from nmt.data.prepare import prepare_corpus
from nmt.data.tagged import TaggedLine
from nmt.data.tokenizer import Tokenizer
from nmt.data.tokenizer_training import Symbols
from nmt.models.seq2seq import Memory, Seq2Seq
from nmt.translation.pytorch import TorchEngine
from nmt.translation.translator import Translator

PAIRS = [("the dog sleeps .", "der Hund schläft ."), ("a cat eats", "eine Katze frisst"), ("the cat", "die Katze")]


@dataclass
class Told:
    length: int

    def select(self, rows: Tensor) -> Told:
        return self


class Speaker(Seq2Seq[Told]):
    """Says ``tokens`` [T], and attends to ``positions`` [T] of the source while it does."""

    def __init__(self, tokens: list[int], positions: list[list[int]], vocabulary: int):
        super().__init__()
        self.output = nn.Linear(1, vocabulary)
        self.tokens, self.positions = [*tokens, Tokenizer.eos_id], [*positions, [0]]

    def encode(self, src: Tensor, src_mask: Tensor, keep: Tensor | None = None) -> Memory:
        return Memory(src, src_mask)

    def decode(self, memory: Memory, tgt_in: Tensor, keep: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def init_state(self, memory: Memory, beam_size: int = 1, room: int | None = None) -> Told:
        return Told(0)

    def step(self, tokens: Tensor, state: Told) -> tuple[Tensor, Told]:
        logits = torch.zeros(len(tokens), self.output.out_features)
        logits[:, self.tokens[min(state.length, len(self.tokens) - 1)]] = 20.0
        return logits, Told(state.length + 1)

    def attention_maps(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> Tensor:
        assert not self.training
        maps = torch.full((2, len(src), 1, tgt_in.size(1), src.size(1)), 0.01)  # the last of two layers counts
        for t, positions in enumerate(self.positions):
            maps[1, :, 0, t, positions] = 1.0 / len(positions)
        return maps


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder: Path = tmp_path_factory.mktemp("copying")
    (folder / "pairs").write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS), encoding="utf-8")
    source = {"kind": "tsv", "path": str(folder / "pairs")}
    data = {"train": source, "valid": source, "store": str(folder), "cleaning": {"drop_overlap": False}}
    corpus = prepare_corpus(DataConfig.model_validate(data))
    kinds = {"word": 18, "char": 28}
    return {
        kind: Tokenizer.train(
            TokenizerConfig(type=kind, vocab_size=size),
            corpus,
            folder / kind,
            Symbols(tags=("<2de>",)),  # type: ignore[arg-type]
        )
        for kind, size in kinds.items()
    }


def translated(tokenizer: Tokenizer, line: str, target: str, positions: list[list[int]], **search: Any) -> str:
    """``target`` as the model says it, where it attends to ``positions`` of the source while it does."""
    [tokens] = tokenizer.encode_tgt([target])
    model = Speaker(tokens, positions, tokenizer.tgt_vocab_size)
    settings = SearchConfig(max_length_offset=50, **{"copy_unknown": True, **search})
    translator = Translator(TorchEngine(model, tokenizer, settings, torch.device("cpu")), tokenizer, settings)
    model.train()
    [[best, *_]] = translator.translate([line])
    assert model.training
    return best.text


@pytest.mark.parametrize("search", [{}, {"beam_size": 1}, {"method": "sample"}])
def test_an_unknown_word_is_the_source_word_with_most_attention(tokenizers, search) -> None:
    """By hand: source words 0 to 3, a word of the target each."""
    positions = [[0], [1], [2], [3]]
    said = translated(tokenizers["word"], "the zebra sleeps .", "der Zebra schläft .", positions, **search)
    assert said == "der zebra schläft ."
    # Attention decides, not the place; several unknown words, at both ends.
    positions = [[2, 2], [0], [3], [1]]
    said = translated(tokenizers["word"], "Okapi the dog Zürich", "Zürich Hund . Okapi", positions, **search)
    assert said == "dog Hund . the"


def test_an_unknown_character_takes_its_word_with_it(tokenizers) -> None:
    """A word with a piece that the vocabulary lacks is replaced as a whole, by the word that its piece attends to."""
    tokenizer, line, target = tokenizers["char"], "the Ångström sleeps", "der Ångström schläft"
    [source], [tokens] = tokenizer.encode_src([line]), tokenizer.encode_tgt([target])
    word = [place for place, number in enumerate(tokenizer.src_words(line)) if number == 1]
    positions = [[0]] * len(tokens)
    positions[tokens.index(tokenizer.unk_id)] = word  # its share is spread over the subwords
    assert translated(tokenizer, line, target, positions) == "der Ångström schläft"
    assert translated(tokenizer, line, target, [[len(source) - 1]] * len(tokens)) == "der sleeps schläft"


def test_tags_are_no_words(tokenizers) -> None:
    tokenizer = tokenizers["word"]
    line = TaggedLine.of("the zebra", ["<2de>"])
    assert translated(tokenizer, line, "der Zebra", [[1], [2]]) == "der zebra"
    assert translated(tokenizer, line, "der Zebra", [[1], [0]]) in ("der the", "der zebra")  # the tag takes no part


def test_without_the_key_no_unknown_word_is_written(tokenizers) -> None:
    said = translated(tokenizers["word"], "the zebra", "der Zebra", [[0], [1]], copy_unknown=False)
    assert "⁇" not in said
    assert "zebra" not in said


def test_words_of_pieces_by_hand(tokenizers) -> None:
    tokenizer, unknown = tokenizers["char"], Tokenizer.unk_id
    [space, d, e, r] = tokenizer.encode_tgt(["der"])[0]
    ids = [space, d, unknown, r, space, e, unknown, space, r]
    assert tokenizer.tgt_groups(ids) == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert tokenizer.tgt_groups([d, e, space, unknown]) == [0, 0, 1, 1]
    assert tokenizer.decode_copying(ids, {0: "Xü", 1: "Y"}) == "Xü Y r"
    assert tokenizer.decode_copying([space, d, space, unknown, space, e, space, r], {1: "Zoë"}) == "d Zoë e r"
    assert tokenizers["word"].tgt_groups([5, unknown, 7]) == [0, 1, 2]
