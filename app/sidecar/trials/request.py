"""The sidecar's request to the process that tries rules, and its answer, each as one line of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, TypedDict, final

import orjson

from app.backtest.trial import TrialDocument
from app.rules.files import rule_from_mapping, rule_to_mapping
from app.rules.rule import Rule

READY: Final = b"ready\n"
"""The first line that the process writes."""


@final
class Tried(TrialDocument):
    """tried: number of symbols, in the order of the request, for which there was time."""

    tried: int


@final
class CandlesUnavailable(TypedDict):
    """unavailable: the database's error."""

    unavailable: str


TrialAnswer = Tried | CandlesUnavailable


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """symbols: tried in this order, as many as `budget_ms` allows. Minutes with since_ms <= open time < until_ms
    count."""

    rule: Rule
    symbols: Sequence[str]
    since_ms: int
    until_ms: int
    budget_ms: int

    def encode(self) -> bytes:
        return orjson.dumps(
            {
                "rule": rule_to_mapping(self.rule),
                "symbols": list(self.symbols),
                "since_ms": self.since_ms,
                "until_ms": self.until_ms,
                "budget_ms": self.budget_ms,
            }
        )

    @classmethod
    def decode(cls, line: bytes) -> Self:
        values = orjson.loads(line)
        return cls(**{**values, "rule": rule_from_mapping(values["rule"])})
