"""Write a choice as a YAML file with the reasons in comments. Every number in a comment is taken from the choice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nmt.config.recipes import ENOUGH, EXTENDED_RATE, SIZES, TUNED_RATE, USUAL_RATE, rounded, vocabulary
from nmt.numbers import plain
from nmt.runtime.progress import duration
from nmt.starting.choose import Choice, NewModel
from nmt.starting.finetune import Tuned
from nmt.starting.material import Material

_PLAIN = re.compile(r"[A-Za-z./_][\w./+@-]*", re.ASCII)
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}  # of some version of YAML, no texts
WIDTH = 118  # of a line of comment
BUSY = 0.5  # share of the processors, below which other programs make training slower


def to_text(choice: NewModel | Tuned, material: Material, device: str, command: str, next_command: str) -> str:
    """The YAML file.

    Args:
        device: on which the pace was measured, for people.
        command: that made the file.
        next_command: that trains.
    """
    body = _body_of_tuning(choice) if isinstance(choice, Tuned) else _body(choice)
    lines = [*_head(choice, material, device, command, next_command), *body]
    return "".join(f"{_printable(line)}\n" for line in lines)


def expectations(choice: Choice, device: str) -> list[str]:
    """What the training is expected to take, for people."""
    train, cost = choice.settings["train"], choice.measured.cost
    tokens = train["batch_tokens"] * train.get("accumulate", 1)
    epochs, busy = choice.steps / choice.epoch_updates, cost.share < BUSY
    passes = _about(epochs) if epochs >= 10 else plain(epochs, 2)
    short = choice.steps < ENOUGH * train["max_steps"]
    limit = f"; the time allowed is {_minutes(train['max_minutes'])}" if not choice.is_cut_short else ""
    return [
        f"model    {cost.parameters / 1e6:.1f} million parameters",
        f"updates  {_about(choice.steps)} of at most {tokens:,} tokens per side, {passes} epochs",
        f"time     {_minutes(choice.minutes)}, at {plain(cost.step_seconds, 2)} s an update, with validations{limit}",
        f"memory   {cost.memory / 2**30:.1f} GiB{'' if device.startswith(('cpu', 'mps')) else ' of the GPU'}",
        *([f"short    these pairs are worth {train['max_steps']:,} updates; more time would help"] if short else []),
        *([f"busy     training had {cost.share:.0%} of the processors; alone, it is faster"] if busy else []),
    ]


def _head(choice: Choice, material: Material, device: str, command: str, next_command: str) -> Iterator[str]:
    """The comment at the top."""
    data = choice.settings["data"]
    src, tgt = material.characters
    pair = f"{data['src_lang']} to {data['tgt_lang']}"
    yield f"# {pair}, {material.pairs:,} sentence pairs of {src:.0f} and {tgt:.0f} characters on average."
    yield f"# Written by: {command}"
    yield f"# Train with: {next_command}"
    yield "#"
    yield f"# Expected, from a few batches on this machine ({device}):"
    yield from (f"#   {line}" for line in expectations(choice, device))
    yield "#"
    yield "# Edit the file as you like. `nmt config` prints all settings, those left at their defaults included."


def _body(choice: NewModel) -> Iterator[str]:
    """The settings, each section with its reasons."""
    tokenizer, model = choice.settings["tokenizer"], choice.settings["model"]
    yield from _data(choice)
    yield "tokenizer:"
    yield from _comment(_why_vocabulary(choice))
    yield from _lines(tokenizer, *tokenizer)
    yield "model:"
    yield from _comment(_why_model(choice))
    yield from _lines(model, *model)
    yield from _train(choice, "The rate rises to its peak during the warm-up, and falls to 0 where the training ends.")


def _body_of_tuning(choice: Tuned) -> Iterator[str]:
    """As :func:`_body`, of a training that starts from a trained model."""
    yield "init:"
    yield from _comment("The weights and the vocabulary to start from; they bring the sections model and tokenizer.")
    if choice.pieces:
        yield from _comment(
            f"The vocabulary lacks {choice.measured.unknown:.1%} of the subwords of the text: new pieces are learned."
        )
    yield from _lines(choice.settings["init"], *choice.settings["init"])
    yield from _data(choice, _why_replay(choice))
    yield from _train(choice, _why_rate(choice))


def _data(choice: Choice, why: str = "") -> Iterator[str]:
    data = choice.settings["data"]
    yield "data:"
    yield from _lines(data, "src_lang", "tgt_lang")
    if why:
        yield from _comment(why)
    if isinstance(data["train"], list):
        yield "  train:"
        yield from (f"    - {flow(dataset)}" for dataset in data["train"])
    else:
        yield from _lines(data, "train")
    if _is_holdout(data["valid"]):
        yield from _comment(
            f"Held out of the training pairs, about {_about(choice.valid_pairs)}: they choose the best checkpoint."
        )
    else:
        yield from _comment(f"{choice.valid_pairs:,} pairs, which choose the best checkpoint.")
    yield from _lines(data, "valid")
    yield "  test:"
    yield from (f"    {name}: {flow(source)}" for name, source in data["test"].items())


def _train(choice: Choice, why_rate: str) -> Iterator[str]:
    train = choice.settings["train"]
    yield "train:"
    yield from _comment(_why_limits(choice))
    yield from _lines(train, "max_minutes", "max_steps")
    if "accumulate" in train:
        tokens = train["batch_tokens"] * train["accumulate"]
        yield from _comment(f"{train['accumulate']} batches make an update of {tokens:,} tokens.")
    yield from _lines(train, *(key for key in ("batch_tokens", "accumulate", "label_smoothing") if key in train))
    yield from _comment(why_rate)
    yield from _lines(train, "optimizer", "schedule")
    count = -(-choice.steps // train["validate_every"])
    yield from _comment(f"About {count:,} validations, with a greedy search, which is fast.")
    yield from _lines(train, "validate_every", "valid_beam_size")


def _why_replay(choice: Tuned) -> str:
    tags = ", ".join(choice.base.choices)
    more = f" The run was trained with the tags {tags}: give the new pairs theirs (tag)." if tags else ""
    if choice.why:
        alone = "Text of the old kind beside them keeps a model from forgetting it."
        return f"The new pairs alone: {choice.why}. {alone}{more}"
    return (
        f"As many of the {choice.base.pairs:,} pairs of the run as new ones, so that the model does not forget them "
        f"(Chu et al. 2017).{more}"
    )


def _why_rate(choice: Tuned) -> str:
    """The reason of the learning rate."""
    share = EXTENDED_RATE if choice.pieces else TUNED_RATE
    of = "the peak of the run's training" if choice.base.rate else f"{USUAL_RATE:g}, a usual peak for such models"
    more = "; new pieces need more than old ones" if choice.pieces else ""
    return f"{share:g} of {of}: a higher rate forgets more{more} (Miceli Barone et al. 2017)."


def _why_vocabulary(choice: NewModel) -> str:
    """The reason of the size of the vocabulary."""
    size, usual = choice.settings["tokenizer"]["vocab_size"], vocabulary(choice.recipe, choice.size)
    if size > usual:
        return "As many subwords as the characters of these languages need."
    if size < usual:
        return "As many subwords as the text can fill."
    if size < choice.recipe.vocab_size:
        return f"As many subwords as suit a model of width {choice.settings['model']['d_model']}."
    pairs = _about(choice.train_pairs)
    return f"The subwords that about {pairs} pairs can teach: most must occur often (Gowda and May 2020)."


def _why_model(choice: NewModel) -> str:
    """The reason of the model and its dropout."""
    title, recipe, dropout = SIZES[choice.size].title, choice.recipe, choice.settings["model"]["dropout"]
    first = f"{title[0].upper()}{title[1:]}"
    if choice.size != recipe.sizes[0]:
        why = f", the largest that the time allows. With more time: {SIZES[recipe.sizes[0]].title}."
    else:
        why = ", which suits this number of pairs."
    high = " Little data needs much dropout (Sennrich and Zhang 2019)." if dropout >= 0.3 else ""
    return f"{first}{why}{high}"


def _why_limits(choice: Choice) -> str:
    """The reason of the limits."""
    if choice.is_cut_short:
        return (
            f"The time ends the training, after about {_about(choice.steps)} updates. The rest of the time asked for is"
            " for corpus, tokenizer and test sets."
        )
    return "The updates end the training; the time only on a busy machine."


# ------------------------------------------------------------------------------------------------------------ YAML text


def _lines(section: Mapping[str, Any], *keys: str) -> Iterator[str]:
    return (f"  {key}: {flow(section[key])}" for key in keys)


def _comment(text: str) -> Iterator[str]:
    """A comment in a section, in lines of at most :data:`WIDTH` characters."""
    line = "  #"
    for word in text.split():
        if len(line) + 1 + len(word) > WIDTH:
            yield line
            line = "  #"
        line += f" {word}"
    yield line


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else _quoted(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)


def _quoted(text: str) -> str:
    """A text in quotation marks. Characters that YAML refuses or takes for the end of a line are escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)


def _printable(line: str) -> str:
    """A line of the file, in whose comments a name may have control characters, which YAML refuses."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)


def _is_holdout(source: Any) -> bool:
    return isinstance(source, Mapping) and source.get("kind") == "holdout"


def _minutes(minutes: float) -> str:
    return duration(60 * minutes)


def _about(number: float) -> str:
    """A number with two significant digits, for estimates."""
    return f"{int(rounded(number, 2)):,}"
