"""What a PromQL expression asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml
from programs import ROOT

RULES: Final = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml"))
FOREIGN: Final = frozenset(
    {"up", "process_resident_memory_bytes", "process_start_time_seconds", "process_cpu_seconds_total"}
)
"""Made by Prometheus itself and by its client library, and on every page."""
_ROW: Final = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([^|]*) \|", re.MULTILINE)
_SUFFIXES: Final = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def rules_of(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


@cache
def all_rules() -> list[dict[str, Any]]:
    return [rule for file in RULES for rule in rules_of(file)]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in all_rules() if "alert" in rule]


@cache
def recorded() -> set[str]:
    return {rule["record"] for rule in all_rules() if "record" in rule}


@cache
def exported() -> dict[str, set[str]]:
    """Series -> its labels, of all metrics that deploy/METRICS.md documents (a test there holds it to the code)."""
    found: dict[str, set[str]] = {}
    for name, kind, labels in _ROW.findall((ROOT / "deploy" / "METRICS.md").read_text()):
        for suffix in _SUFFIXES[kind]:
            found[name + suffix] = set(re.findall(r"`(\w+)`", labels)) | (
                {"le"} if suffix == "_bucket" else set()
            )
    return found


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    """Every vector selector of an expression. Raises ValueError for what is no PromQL."""
    yield from inner_selectors(promql_parser.parse(expression))


def children(node: Any) -> list[Any]:
    inside = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param")]
    return [child for child in (*inside, *getattr(node, "args", ())) if child is not None]


def names(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    found = set()
    for selector in selectors(expression):
        assert selector.name, f"a selector without a name: {expression}"
        found.add(selector.name)
    return found


def lost_labels(expression: str) -> set[str]:
    """Labels by which an expression groups though no metric inside has them: they would be empty."""
    known, lost = exported(), set()
    pending = [promql_parser.parse(expression)]
    while pending:
        node = pending.pop()
        pending += children(node)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            inside = [selector.name for selector in inner_selectors(node)]
            if all(name in known for name in inside):
                lost |= (
                    set(node.modifier.labels)
                    - set().union(*(known[name] for name in inside))
                    - {"job", "instance"}
                )
    return lost


def inner_selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    else:
        for child in children(node):
            yield from inner_selectors(child)
