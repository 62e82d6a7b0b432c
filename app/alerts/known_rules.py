"""The rules that a worker last read from the database, kept in a file for a start while the database is down."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import orjson
import structlog

from app.rules.files import rule_to_mapping
from app.rules.rule import Rule
from app.rules.updates import update_rules
from app.settings.access import Namespace

log = structlog.get_logger("rules")


class KnownRules:
    """One file per namespace under the data directory; the workers of a machine share it."""

    def __init__(self, data_dir: Path, namespace: Namespace) -> None:
        self._path: Path = data_dir / "rules" / f"{namespace.name('rules')}.json"

    def read(self) -> tuple[Rule, ...] | None:
        """Return None without a usable file; an unusable file is logged, and so is an invalid rule."""
        try:
            entries = orjson.loads(self._path.read_bytes())
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise ValueError("not a list of rules")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("known_rules_unreadable", file=str(self._path), error=repr(error))
            return None
        update = update_rules((), entries)
        for fault in update.refused.values():
            log.warning("known_rules_unreadable", file=str(self._path), error=fault)
        return update.rules if update.rules or not entries else None

    def write(self, rules: Iterable[Rule]) -> None:
        """Write atomically: a reader sees the old rules or the new ones. A failure is only logged: the worker can
        continue without the file."""
        packed = orjson.dumps([rule_to_mapping(rule) for rule in rules])
        passing = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            passing.write_bytes(packed)
            passing.replace(self._path)
        except OSError as error:
            log.warning("known_rules_not_written", file=str(self._path), error=repr(error))

    def forget(self) -> None:
        """Delete the file; idempotent."""
        self._path.unlink(missing_ok=True)
