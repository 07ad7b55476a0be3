"""The vocabulary of a Marian model as our tokenizer: two SentencePiece models and a list of pieces.

Our ids 0 to 3 are padding, unknown, begin and end of a sentence. Another program has them elsewhere, or has none. So
its pieces get other ids, and :class:`Vocabulary` has the id of each there. Its end and unknown pieces become ours. Our
begin of a sentence is what its decoder starts with: the padding of ``MarianMTModel``, or a vector of zeros in Marian.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nmt.config.pretrained import Pretrained, parse_yaml, read_json, vocabulary_files
from nmt.data.sentencepiece_model import BOS_ID, EOS_ID, PAD_ID, SPACE, UNK_ID, parse_model
from nmt.errors import TokenizerError

SPECIAL = {PAD_ID: "<pad>", UNK_ID: "<unk>", BOS_ID: "<s>", EOS_ID: "</s>"}
Ids = list[int | None]


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of one side.

    Attributes:
        pieces: by our id.
        foreign: the other program's id of each; None where it has none.
        model: the SentencePiece model that splits the text of this side.
    """

    pieces: list[str]
    foreign: Ids
    model: Path


def vocabularies(source: Pretrained) -> tuple[Vocabulary, Vocabulary]:
    """The vocabularies of source and target; equal pieces and ids if they are shared.

    Raises:
        TokenizerError, ConfigError: a file is missing or damaged.
    """
    if source.kind == "huggingface":
        folder = source.path
        pad = read_json(folder / "config.json").get("pad_token_id")
        lists = [read_json(folder / "vocab.json")]
        if (folder / "target_vocab.json").is_file():
            lists.append(read_json(folder / "target_vocab.json"))
        models = [folder / "source.spm", folder / "target.spm"]
        made = [_listed(lists[n * (len(lists) - 1)], folder, models[n], pad) for n in range(2)]
        return made[0], made[1]
    files = vocabulary_files(source.path)
    models = [source.path.parent / name for name in ("source.spm", "target.spm")]
    made = [
        _of_model(file) if file.suffix == ".spm" else _listed(_read_list(file), file, models[side], None)
        for side, file in enumerate(files)
    ]
    return made[0], made[1]


def _read_list(path: Path) -> dict[str, int]:
    """A vocabulary of Marian, pieces to ids, in YAML or JSON."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise TokenizerError(f"{path}: cannot be read: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(found, dict):
        raise TokenizerError(f"{path}: must map pieces to ids")
    return {str(piece): number for piece, number in found.items()}


def _of_model(path: Path) -> Vocabulary:
    """The vocabulary that a SentencePiece model itself has, as in Marian."""
    pieces = [piece.piece for piece in parse_model(path).pieces]
    return _listed({piece: number for number, piece in enumerate(pieces)}, path, path, None)


def _listed(ids: dict[str, Any], where: Path, model: Path, pad: Any) -> Vocabulary:
    """Order the pieces by their ids there, behind our special ones.

    Args:
        ids: pieces to ids.
        pad: the id of padding, which the decoder starts with; None if the program has none.
    """
    if not all(isinstance(number, int) for number in ids.values()) or len(set(ids.values())) != len(ids):
        raise TokenizerError(f"{where}: a vocabulary must give each piece another number")
    if missing := [name for name in ("</s>", "<unk>") if name not in ids]:
        raise TokenizerError(f"{where}: the vocabulary lacks {' and '.join(missing)}")
    special: dict[int, int | None] = {PAD_ID: None, UNK_ID: ids["<unk>"], BOS_ID: pad, EOS_ID: ids["</s>"]}
    others = sorted((number, piece) for piece, number in ids.items() if number not in special.values())
    pieces, foreign = list(SPECIAL.values()), [special[number] for number in SPECIAL]
    for number, piece in others:
        pieces.append(f"{piece}_" if piece in SPECIAL.values() else piece)
        foreign.append(number)
    return Vocabulary(pieces, foreign, model)


def write_tokenizer(source: Pretrained, folder: Path) -> None:
    """Write ``joint.model``, or ``src.model`` and ``tgt.model``, with our ids into ``folder``.

    A piece that a side's model has and the vocabulary lacks is unknown, as in ``MarianMTModel``; such pieces come last,
    and ``vocabulary.json`` has the number of the others.

    Raises:
        TokenizerError, ConfigError: a file is missing or damaged.
    """
    src, tgt = vocabularies(source)
    sides = {"joint": src} if src.model == tgt.model else {"src": src, "tgt": tgt}
    sizes = {}
    for name, side in sides.items():
        model, sizes[name] = _with_pieces(parse_model(side.model), side.pieces, tags=name != "tgt"), len(side.pieces)
        (folder / f"{name}.model").write_bytes(model)
    (folder / "vocabulary.json").write_text(json.dumps({"sizes": sizes}) + "\n", encoding="utf-8")


def _with_pieces(model: Any, pieces: Sequence[str], tags: bool) -> bytes:
    """A SentencePiece model with the given pieces in this order, and its others behind them.

    Args:
        tags: whether a text may begin with a language tag such as ``>>fra<<``, which is one piece.
    """
    # Pieces in their new order
    kinds = type(model.pieces[0])
    known = {
        piece.piece: piece for piece in model.pieces if piece.type in (kinds.NORMAL, kinds.USER_DEFINED, kinds.BYTE)
    }
    special = {PAD_ID: kinds.CONTROL, UNK_ID: kinds.UNKNOWN, BOS_ID: kinds.CONTROL, EOS_ID: kinds.CONTROL}
    made = []
    for number, name in enumerate(pieces):
        if number in special:
            made.append((name, 0.0, special[number]))
        elif name in known:
            made.append((name, known[name].score, known[name].type))
        elif tags and name.startswith(">>") and name.endswith("<<") and f"{SPACE}{name}" not in pieces:
            made.append((f"{SPACE}{name}", 0.0, kinds.USER_DEFINED))
        else:
            made.append((name, 0.0, kinds.UNUSED))  # a piece of the other side
    listed = {*pieces, *(name for name, _, _ in made)}
    made += [(name, piece.score, piece.type) for name, piece in known.items() if name not in listed]
    # The model
    del model.pieces[:]
    for name, score, kind in made:
        model.pieces.add(piece=name, score=score, type=kind)
    about = model.trainer_spec
    about.pad_id, about.unk_id, about.bos_id, about.eos_id = PAD_ID, UNK_ID, BOS_ID, EOS_ID
    about.pad_piece, about.unk_piece, about.bos_piece, about.eos_piece = SPECIAL.values()
    about.vocab_size = len(made)
    changed: bytes = model.SerializeToString(deterministic=True)
    return changed
