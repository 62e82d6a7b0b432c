"""One vocabulary of log events: what the code writes is what is documented."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from app import log_events

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
BROKER = ROOT / "app" / "stack" / "broker"
"""A program of its own, with a plain log of its own."""


def log_calls() -> Iterator[ast.Call]:
    for package in ("app", "agents", "tables"):
        for path in (ROOT / package).rglob("*.py"):
            if BROKER in path.parents:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in LEVELS
                ):
                    target = ast.unparse(node.func.value)
                    if target.split(".")[-1] in {"log", "_log", "logger"} or "get_logger(" in target:
                        yield node


def events(call: ast.Call) -> list[str]:
    """The events that a call may write: a text, or one of two by a condition."""
    first = call.args[0]
    options = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
    names = [option.value for option in options if isinstance(option, ast.Constant)]
    assert len(names) == len(options), f"an event must be written out: {ast.unparse(call)}"
    return names


def test_every_event_of_the_code_is_in_the_vocabulary_and_none_is_there_in_vain():
    written = {event for call in log_calls() for event in events(call)}
    documented = {event for group in log_events.EVENTS.values() for event in group}
    assert written - documented == set(), (
        "add it to app/log_events.py, then python -m app.log_events > deploy/LOGS.md"
    )
    assert documented - written == set(), "no call writes it any more"
    assert len(written) > 50


def test_events_are_names_not_sentences_and_belong_to_one_subject():
    named = Counter(event for group in log_events.EVENTS.values() for event in group)
    assert all(re.fullmatch(r"[a-z0-9_]{3,40}", event) for event in named)
    assert max(named.values()) == 1


def test_the_facts_of_an_event_are_given_by_name():
    for call in log_calls():
        assert len(call.args) == 1, f"facts by name, never in the text: {ast.unparse(call)}"


def test_the_documentation_is_what_the_vocabulary_would_write():
    assert (ROOT / "deploy" / "LOGS.md").read_text() == log_events.render(), (
        "run python -m app.log_events > deploy/LOGS.md"
    )
