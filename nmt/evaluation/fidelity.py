"""Characters that are lost between text and subwords."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from nmt.config.evaluation import EvaluationConfig
from nmt.config.tokenizer import TokenizerConfig
from nmt.data.corpus import TextPart
from nmt.data.tokenizer import Tokenizer
from nmt.data.unknown import describe
from nmt.evaluation.scores import score

CHECKED_LINES = 5000  # lines of the validation set
COMPARED = 200  # characters compared from the first difference on: the time is quadratic in their number
NOTICED = 1e-3  # share of unknown pieces at which a warning starts


@dataclass(frozen=True)
class RoundTrip:
    """Differences between targets and their encoded and decoded text.

    Attributes:
        lines: number of lines checked.
        changed: number of lines that differ. Runs of spaces, and spaces at the ends, do not count.
        chrf: chrF of the decoded text against the targets.
        before, after: the first characters that differ.
    """

    lines: int
    changed: int = 0
    chrf: float = 100.0
    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, part: TextPart, tokenizer: Tokenizer, evaluation: EvaluationConfig) -> RoundTrip:
        targets = [part.tgt(i) for i in range(min(len(part), CHECKED_LINES))]
        found = tokenizer.decode(tokenizer.encode_tgt(targets))
        pairs = [(re.sub(" +", " ", line).strip(" "), text) for line, text in zip(targets, found, strict=True)]
        changed = [(line, text) for line, text in pairs if line != text]
        if not changed:
            return cls(len(targets))
        line, text = changed[0]
        characters = enumerate(zip(line, text, strict=False))
        start = next((place for place, (one, other) in characters if one != other), min(len(line), len(text)))
        line, text = line[start : start + COMPARED], text[start : start + COMPARED]
        blocks = difflib.SequenceMatcher(None, line, text, autojunk=False).get_opcodes()
        a, b, c, d = next(places for kind, *places in blocks if kind != "equal")
        chrf = score(found, targets, evaluation, ["chrf"]).chrf
        return cls(len(targets), len(changed), chrf, line[a:b][:20], text[c:d][:20])

    def summary(self, config: TokenizerConfig, brought: str = "") -> str:
        """One line, a warning if anything is lost.

        Args:
            brought: the key that brings the tokenizer, such as ``init.from``; empty if it was trained on this corpus.
        """
        if not self.changed:
            return (
                f"targets     {self.lines:,} of {self.lines:,} validation lines come back from the tokenizer unchanged"
            )
        rule = config.rules[1]
        if rule in ("whitespace", "identity"):
            cause = "the tokenizer has no pieces for these characters"
        elif brought:
            cause = f"the tokenizer of {brought} normalises the target by {rule}"
        else:
            cause = f"the target's normalization is {rule}; set tokenizer.normalization.tgt to whitespace to keep them"
        return (
            f"warning: {self.changed:,} of {self.lines:,} validation targets come back from the tokenizer changed: "
            f"a perfect translation has chrF {self.chrf:.1f}; first {self.before!r} becomes {self.after!r}; {cause}"
        )


def unknown_summary(accounts: dict[str, dict[str, object]], config: TokenizerConfig, brought: str = "") -> str:
    """One line about the unknown pieces of a corpus, a warning if there are many; empty without unknown pieces.

    Args:
        brought: the key that brings the tokenizer, such as ``init.from``; empty if it was trained on this corpus.
    """
    share, told = describe(accounts)
    if not told:
        return ""
    text = f"unknown to the tokenizer: {told}"
    if share < NOTICED:
        return text
    cures = {
        "word": "set tokenizer.type to unigram or bpe, or raise tokenizer.vocab_size",
        "char": "raise tokenizer.vocab_size, or set tokenizer.byte_fallback: true",
    }
    coverage = f"raise tokenizer.character_coverage (now {config.character_coverage:g}), or "
    cure = coverage if config.character_coverage < 1 else ""
    cure = cures.get(config.type, f"{cure}set tokenizer.byte_fallback: true")
    kept = {
        "init.from": "set or raise init.extend_vocabulary",
        "tokenizer.run": "remove tokenizer.run to train another",
    }
    cure = kept.get(brought, cure)
    return (
        f"warning: {text}; no translation can contain them, but accuracy and perplexity count <unk> as correct; {cure}"
    )
