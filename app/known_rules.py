"""The rules that a worker last took from the database, kept in a file for a start while it is away."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import orjson
import structlog

from app.errors import RuleError
from app.rules.files import rule_from_mapping, rule_to_mapping
from app.rules.rule import Rule
from app.settings import Settings

log = structlog.get_logger("rules")


class KnownRules:
    """One file per namespace under the data directory; the workers of a machine share it."""

    def __init__(self, settings: Settings) -> None:
        self._path: Path = settings.data_dir / "rules" / f"{settings.name('rules')}.json"

    def read(self) -> tuple[Rule, ...] | None:
        """None if there are none, or the file cannot be used; the latter is logged."""
        try:
            entries = orjson.loads(self._path.read_bytes())
            return tuple(rule_from_mapping(entry) for entry in entries)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError, RuleError) as error:
            log.warning("known_rules_unreadable", file=str(self._path), error=repr(error))
            return None

    def write(self, rules: Iterable[Rule]) -> None:
        """A reader sees the old rules or the new ones. What cannot be written is logged: it is not needed to go on."""
        packed = orjson.dumps([rule_to_mapping(rule) for rule in rules])
        passing = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            passing.write_bytes(packed)
            passing.replace(self._path)
        except OSError as error:
            log.warning("known_rules_not_written", file=str(self._path), error=repr(error))

    def forget(self) -> None:
        """Harmless to repeat."""
        self._path.unlink(missing_ok=True)
