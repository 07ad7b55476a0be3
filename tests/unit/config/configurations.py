"""Small configurations, and what loading them says."""

from pathlib import Path

import pytest

from nmt.config.experiment import Config
from nmt.config.load import load_config
from nmt.errors import ConfigError

BASE = """\
data:
  src_lang: en
  train: {kind: demo, part: train}
  valid: {kind: demo, part: valid}
model: {type: transformer}
train: {max_steps: 5}
"""


def load(folder: Path, text: str | bytes = BASE, *overrides: str) -> Config:
    """The configuration of a file ``c.yaml`` with this text."""
    path = folder / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, overrides)


def message(folder: Path, text: str | bytes = BASE, *overrides: str) -> str:
    """The message about a file ``c.yaml`` with this text, which has a mistake."""
    with pytest.raises(ConfigError) as error:
        load(folder, text, *overrides)
    return str(error.value).replace(f"{folder}/", "")
