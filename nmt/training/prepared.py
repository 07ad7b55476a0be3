"""The data of a training: corpus, tokenizer and encoded pairs."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import Any

from nmt.config.evaluation import EvaluationConfig
from nmt.data.corpus import Corpus
from nmt.data.encoded import EncodedCorpus
from nmt.data.tokenizer import Tokenizer
from nmt.evaluation.fidelity import RoundTrip
from nmt.run.directory import Run
from nmt.storage.atomic import new_directory, same_files, write_json


@dataclass(frozen=True)
class Prepared:
    """Everything that a training reads.

    Attributes:
        evaluation: with the choices made that depend on the target language.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    encoded: EncodedCorpus
    round_trip: RoundTrip
    evaluation: EvaluationConfig

    def copy_into(self, run: Run, environment: dict[str, Any]) -> None:
        """Copy what the run needs to be used without the store: the tokenizer, and the account of the data."""
        run.check_held()
        if not run.started:
            if not same_files(self.tokenizer.path, run.tokenizer):  # after a first start that failed, on a full disk
                with new_directory(run.tokenizer) as folder:
                    for file in self.tokenizer.path.iterdir():
                        shutil.copyfile(file, folder / file.name)
            started_from = run.init / "init.json"
            manifest = {
                **{key: value for key, value in self.corpus.manifest.items() if key != "examples"},
                "tokenizer": self.tokenizer.fingerprint,
                "encoded": self.encoded.manifest,
                "limits": self.encoded.limits.model_dump(),
                "round_trip": asdict(self.round_trip),
                "environment": environment,
                **({"init": json.loads(started_from.read_text(encoding="utf-8"))} if started_from.is_file() else {}),
            }
            write_json(run.manifest_path, manifest)
