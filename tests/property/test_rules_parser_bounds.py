"""What parsing a hostile text may cost and touch: work in proportion to the text, a flat stack, no outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings

from app.errors import RuleError
from app.rules.language.lexer import MAX_LENGTH
from app.rules.language.parser import parse_condition
from tests.property.test_rules_parser import HOSTILE, LIKELY, PROSE

COSTLY = [
    "price > " + "1+" * 900 + "1",
    "min(" + "price," * 300 + "price) > 1",
    "price>1 and " * 150 + "price>1",
    "price > 1 or not " * 100 + "price>1",
    "(" * 31 + "price > 1" + ")" * 31,
    "abs(" * 31 + "price" + ")" * 31 + " > 1",
    "price_change_1x > 1 and " * 80 + "price > 1",
    "ab" * 900 + " > 1",
    "_" * MAX_LENGTH,
]
LINES_FOR_ADVICE = 30_000
"""Looking for the name that was meant."""
LINES_PER_CHARACTER = 100
MOST_FRAMES = 500
"""Half of what Python allows, so that a server may be in the middle of something."""


class Work:
    """Lines of Python executed, and how deep the stack grew, while it is traced."""

    def __init__(self) -> None:
        self.lines = 0
        self.deepest = 0
        self._depth = 0

    def trace(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self.lines += 1
        elif event == "call":
            self._depth += 1
            self.deepest = max(self.deepest, self._depth)
        elif event == "return":
            self._depth -= 1
        return self.trace


def work_of(text: str) -> Work:
    work, before = Work(), sys.gettrace()
    sys.settrace(work.trace)
    try:
        # not the remembered tree of a text that another test parsed
        parse_condition.__wrapped__(text)
    except RuleError:
        return work
    finally:
        sys.settrace(before)
    return work


def assert_bounded(text: str) -> None:
    work = work_of(text)
    assert 0 < work.lines <= LINES_FOR_ADVICE + LINES_PER_CHARACTER * min(len(text), MAX_LENGTH)
    assert work.deepest <= MOST_FRAMES


@pytest.mark.parametrize("text", [*HOSTILE, *COSTLY], ids=range(len(HOSTILE) + len(COSTLY)))
def test_a_hostile_text_costs_no_more_than_its_length_allows(text: str) -> None:
    assert_bounded(text)


@settings(max_examples=150, deadline=None)
@given(PROSE | LIKELY)
def test_any_text_costs_no_more_than_its_length_allows(text: str) -> None:
    assert_bounded(text)


_SEEN: list[list[str]] = []


def _hook(event: str, _arguments: Any) -> None:
    """Audit hooks cannot be taken away again; this one notes events only while somebody listens."""
    if _SEEN:
        _SEEN[-1].append(event)


@contextmanager
def audited() -> Iterator[list[str]]:
    """The audit events of the interpreter: code compiled or run, modules imported, files, processes, sockets."""
    _SEEN.append([])
    try:
        yield _SEEN[-1]
    finally:
        _SEEN.pop()


def test_no_text_makes_the_parser_compile_run_import_or_open_anything() -> None:
    sys.addaudithook(_hook)
    with audited() as harmless:
        compile("1", "here", "eval")
    assert "compile" in harmless
    with audited() as events:
        for text in (*HOSTILE, *COSTLY, "price > 1"):
            try:
                parse_condition.__wrapped__(text)
            except RuleError:
                continue
    assert events == []
