"""The metrics and labels that PromQL expressions use, and the documented metrics."""

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
    {
        "up",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "node_filesystem_avail_bytes",
        "node_filesystem_size_bytes",
        "node_memory_MemAvailable_bytes",
        "node_memory_MemTotal_bytes",
        "redis_up",
        "redis_memory_used_bytes",
        "redis_memory_max_bytes",
        "redis_aof_last_write_status",
        "redis_rdb_last_bgsave_status",
        "pg_up",
        "pg_stat_activity_count",
        "pg_settings_max_connections",
        "kafka_brokers",
        "kafka_topic_partition_under_replicated_partition",
        "jetstream_server_total_message_bytes",
        "jetstream_server_max_storage",
        "kube_cronjob_created",
        "kube_cronjob_status_last_successful_time",
        "kube_job_status_failed",
        # written by deploy/backup/daily.sh
        "screener_backup_failed",
        "screener_backup_last_success_timestamp_seconds",
        "kubelet_volume_stats_available_bytes",
        "kubelet_volume_stats_capacity_bytes",
    }
)
"""Series that are not the screener's own: from Prometheus itself and its client library (on every page), disks and
servers from the exporters of Compose, volumes from Kubernetes, jobs from kube-state-metrics."""
OF_TARGETS: Final = frozenset({"job", "instance", "namespace", "release"})
"""Labels of a target; the last two only in Kubernetes."""
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
    """Return series -> labels of all metrics in deploy/METRICS.md (a test there compares that file with the code)."""
    found: dict[str, set[str]] = {}
    for name, kind, labels in _ROW.findall((ROOT / "deploy" / "METRICS.md").read_text()):
        for suffix in _SUFFIXES[kind]:
            found[name + suffix] = set(re.findall(r"`(\w+)`", labels)) | (
                {"le"} if suffix == "_bucket" else set()
            )
    return found


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    """Yield every vector selector of an expression. Raises ValueError if it is not PromQL."""
    yield from inner_selectors(promql_parser.parse(expression))


def children(node: Any) -> list[Any]:
    inside = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param")]
    return [child for child in (*inside, *getattr(node, "args", ())) if child is not None]


def names(expression: str) -> set[str]:
    """Return the names of the metrics in an expression."""
    found = set()
    for selector in selectors(expression):
        assert selector.name, f"a selector without a name: {expression}"
        found.add(selector.name)
    return found


def lost_labels(expression: str) -> set[str]:
    """Return labels that an expression groups by although no metric inside has them: they would be empty."""
    known, lost = exported(), set()
    pending = [promql_parser.parse(expression)]
    while pending:
        node = pending.pop()
        pending += children(node)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            inside = [selector.name for selector in inner_selectors(node)]
            if all(name in known for name in inside):
                lost |= (
                    set(node.modifier.labels) - set().union(*(known[name] for name in inside)) - OF_TARGETS
                )
    return lost


def aggregations(expression: str) -> Iterator[set[str]]:
    """Yield the labels that each aggregation groups by."""
    pending = [promql_parser.parse(expression)]
    while pending:
        node = pending.pop()
        pending += children(node)
        if isinstance(node, promql_parser.AggregateExpr):
            yield set(node.modifier.labels) if node.modifier else set()


def inner_selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    else:
        for child in children(node):
            yield from inner_selectors(child)
