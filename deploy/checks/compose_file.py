"""deploy/compose.yaml as Compose reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:\?[^}]*|:-[^}]*)?\}")
Service = dict[str, Any]


def services_of(name: str | Path = "compose.yaml") -> dict[str, Service]:
    return dict(yaml.safe_load((DEPLOY / name).read_text())["services"])


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with variables replaced as Compose does."""

    def value(match: re.Match[str]) -> str:
        default = (match[2] or "").removeprefix(":-")
        return values.get(match[1]) or default

    return VARIABLE.sub(value, text)
