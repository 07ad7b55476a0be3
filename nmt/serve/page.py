"""The web page at ``/``: one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from nmt.insight.page import inert
from nmt.serve.limits import Limits
from nmt.serve.model import Served
from nmt.text.splitting import WORDS, abbreviations, writes_ordinals

TEMPLATE = Path(__file__).with_name("page.html")
BEST = 5  # translations of a sentence that the page asks for


def page(models: Sequence[Served], limits: Limits) -> tuple[str, str]:
    """The page, and its content security policy: no script and no style but those of the page."""
    template = TEMPLATE.read_text(encoding="utf-8")
    scripts, styles = (_hashes(template, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    data = {
        "models": [
            {
                "source": model.source,
                "target": model.target,
                "name": model.name,
                "best": min(BEST, model.most),
                "attends": model.attends,
                # After these, a point ends no sentence; words that are abbreviations too are no part of them.
                "abbreviations": sorted(abbreviations(model.source) - WORDS),
                "ordinals": writes_ordinals(model.source),
            }
            for model in models
        ],
        "characters": limits.characters,
        "lines": limits.lines,
    }
    return template.replace("PAGE_DATA", inert(data)), policy


def _hashes(template: str, tag: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in found)
