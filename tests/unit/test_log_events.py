"""One vocabulary of log events: what the code writes is what is documented."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from app.telemetry import log_events

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
BROKER = ROOT / "app" / "local" / "broker"
"""A program of its own, with a plain log of its own."""


def modules() -> Iterator[ast.Module]:
    for package in ("app", "agents", "tables"):
        for path in (ROOT / package).rglob("*.py"):
            if BROKER not in path.parents:
                yield ast.parse(path.read_text())


def is_log_method(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr not in LEVELS:
        return False
    target = ast.unparse(node.value)
    return target.split(".")[-1] in {"log", "_log", "logger"} or "get_logger(" in target


def local_names(module: ast.Module) -> set[str]:
    """Names that stand for a method of a log, as in `tell = log.error`."""
    return {
        target.id
        for node in ast.walk(module)
        if isinstance(node, ast.Assign) and is_log_method(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def calls_of(module: ast.Module) -> Iterator[ast.Call]:
    names = local_names(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and (
            is_log_method(node.func) or (isinstance(node.func, ast.Name) and node.func.id in names)
        ):
            yield node


def log_calls() -> Iterator[ast.Call]:
    for module in modules():
        yield from calls_of(module)


def outages_of(module: ast.Module) -> Iterator[str]:
    """The events that an `OutageLog` writes."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "OutageLog":
            event = node.args[1]
            assert isinstance(event, ast.Constant), f"an event must be written out: {ast.unparse(node)}"
            yield event.value


def events(call: ast.Call) -> list[str]:
    """The events that a call may write: a text, or one of two by a condition."""
    first = call.args[0]
    options = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
    names = [option.value for option in options if isinstance(option, ast.Constant)]
    assert len(names) == len(options), f"an event must be written out: {ast.unparse(call)}"
    return names


def test_every_event_of_the_code_is_in_the_vocabulary_and_none_is_there_in_vain():
    written = {event for call in log_calls() for event in events(call)}
    written |= {event for module in modules() for event in outages_of(module)}
    documented = {event for group in log_events.EVENTS.values() for event in group}
    assert written - documented == set(), (
        "add it to app/telemetry/log_events.py, then python -m app.telemetry.log_events > deploy/LOGS.md"
    )
    assert documented - written == set(), "no call writes it any more"
    assert len(written) > 50


def test_a_call_through_a_local_name_is_seen():
    module = ast.parse(
        "tell = log.warning\nif dead:\n    tell = log.error\ntell('a' if dead else 'b')\nother('c')"
    )
    assert [events(call) for call in calls_of(module)] == [["a", "b"]]


def test_a_method_of_a_log_is_called_or_has_a_local_name_and_is_never_passed_on():
    for module in modules():
        seen = {id(call.func) for call in calls_of(module)}
        seen |= {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Assign)}
        assert [ast.unparse(n) for n in ast.walk(module) if is_log_method(n) and id(n) not in seen] == []


def test_events_are_names_not_sentences_and_belong_to_one_subject():
    named = Counter(event for group in log_events.EVENTS.values() for event in group)
    assert all(re.fullmatch(r"[a-z0-9_]{3,40}", event) for event in named)
    assert max(named.values()) == 1


def test_the_facts_of_an_event_are_given_by_name():
    for call in log_calls():
        assert len(call.args) == 1, f"facts by name, never in the text: {ast.unparse(call)}"


def test_the_documentation_is_what_the_vocabulary_would_write():
    assert (ROOT / "deploy" / "LOGS.md").read_text() == log_events.render(), (
        "run python -m app.telemetry.log_events > deploy/LOGS.md"
    )
