"""The demo corpus: English sentences with their German translations, made from one grammar.

There is nothing to download and no licence to mind. A sentence is thought up once, as a
:class:`~nmt.data.demo.clauses.Clause` (who does what to whom, when and where), and read out twice.
English puts the parts in a row; German puts them into the *topological fields* that every grammar
of German draws:

    Vorfeld | left bracket | Mittelfeld                    | right bracket | Nachfeld
    Gestern | hat          | der Mann seiner Frau ein Buch | mitgebracht   | , das sie nun liest
    Heute   | ruft         | er seine Mutter               | an            |
            | weil         | er heute seine Mutter         | anruft        |

A main clause has its finite verb in the left bracket, second after whatever fills the Vorfeld. A
subordinate clause has its conjunction there and keeps all its verbs for the end.

Whatever a translator would be free to choose is settled by one rule, so that the German is a
function of the English: "you" is du; the simple past is the Perfekt, but war, hatte and the
Präteritum of the modals; "has been waiting for" is the Präsens with seit; and the Mittelfeld has
one order (:data:`~nmt.data.demo.clauses.MITTELFELD`).

Each word also knows what it stands for (:class:`~nmt.data.demo.pair.Text`), so :func:`links` gives
the true word alignment of a pair. A word that only one language has is aligned with what it belongs
to: "is buying" is kauft, "bought" is hat gekauft, "not ... a" is kein, and a preposition without a
counterpart goes with its verb. So every word has a link.

Read in this order: inflection, lexicon, clauses, the writer of sentences, and here the corpus.
"""

from __future__ import annotations

from nmt.data.demo.pair import Pair, links
from nmt.data.demo.writer import Writer

__all__ = ["SENTENCES", "Pair", "generate", "links"]

SENTENCES = "118e52d6bf3392ac"  # version of the sentences: a new value means that a seed makes other ones
MAX_PAIRS = 200_000  # the grammar holds many more, but new ones become slow to find
PATIENCE = 2_000  # sentences in a row that are old, or contain an unknown word


def generate(
    seed: int, train_size: int = 24_000, valid_size: int = 500, test_size: int = 1_000, aligned: bool = False
) -> dict[str, list[Pair]]:
    """Make the corpus: "train", "valid" and "test", the same for a seed wherever it is made.

    No source sentence comes twice. Every word of a valid or test pair, with the punctuation that
    clings to it, is in train: only their combination is new.

    With ``aligned``, :func:`links` knows the word alignment of each pair.

    Raises ValueError if the grammar cannot make that much.
    """
    sizes = {"train": train_size, "valid": valid_size, "test": test_size}
    total = sum(sizes.values())
    if min(sizes.values()) < 0:
        raise ValueError(f"the sizes of a demo corpus cannot be negative: {sizes}")
    if total > MAX_PAIRS:
        raise ValueError(f"the demo grammar makes {MAX_PAIRS} pairs at most, not {total}")
    writer = Writer(seed)
    corpus: dict[str, list[Pair]] = {split: [] for split in sizes}
    seen: set[str] = set()
    known: set[tuple[int, str]] = set()
    for split, size in sizes.items():
        failures = 0
        while len(corpus[split]) < size:
            pair = writer.sentence()
            tokens = {(side, token) for side in (0, 1) for token in pair[side].split()}
            if split == "train":
                known |= tokens
            if pair.src not in seen and tokens <= known:
                seen.add(pair.src)
                corpus[split].append(pair if aligned else Pair(str(pair.src), str(pair.tgt)))
                failures = 0
            elif (failures := failures + 1) == PATIENCE:
                raise ValueError(
                    f"the words of {train_size} training pairs are enough for only "
                    f"{len(corpus[split])} of {size} {split} pairs"
                )
    return corpus
