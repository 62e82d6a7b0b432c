"""`deploy/METRICS.md`: every metric, written from the objects that count.

`python -m app.telemetry.document > deploy/METRICS.md` brings it up to date; a test holds the two together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.telemetry.catalogue import GROUPS, ROLE_PORTS, Group

_HEADER = """\
# Metrics

Written by `python -m app.telemetry.document`. Every role serves `/metrics` on its port:

| role | port |
|---|---|
{ports}

The sidecar serves the same page on its port 8080. In a worker of the role `all` each of the three ports has the
metrics of its own role only; what belongs to the process (`screener_ready`, `screener_event_loop_lag_seconds`,
`process_*`, `python_*`, ...) is on all three: aggregate it with `max`, not with `sum`. A histogram `x` has the series
`x_bucket`, `x_sum` and `x_count`; mean values are recording rules (`..._avg`, see `prometheus/rules/recording.yaml`).
Labels have closed sets of values, except `rule_type` (the rules that exist) and `shard` / `partition` (their number
is a setting). `process_*` and `python_*` are those of the Prometheus client library.
"""


def render() -> str:
    """The whole file."""
    ports = "\n".join(f"| {role} | {port} |" for role, port in ROLE_PORTS.items())
    registry = CollectorRegistry()
    sections = ["\n".join(_section(group, registry)) for group in GROUPS]
    return "\n\n".join([_HEADER.format(ports=ports), *sections]) + "\n"


def _section(group: Group, registry: CollectorRegistry) -> Iterator[str]:
    yield f"## {group.title}"
    yield f"Served by: {', '.join(group.roles)}.\n"
    yield "| name | type | labels | what |"
    yield "|---|---|---|---|"
    for family in group.families(registry).values():
        yield _row(family)


def _row(family: MetricWrapperBase) -> str:
    name = f"{family._name}_total" if family._type == "counter" else family._name
    labels = ", ".join(f"`{label}`" for label in family._labelnames)
    text = family._documentation
    if isinstance(family, Histogram):
        bounds = [float(bound) for bound in family._kwargs["buckets"]]
        text += f"; buckets {bounds[0]:g} to {bounds[-1]:g}"
    return f"| `{name}` | {family._type} | {labels} | {text} |"


if __name__ == "__main__":
    sys.stdout.write(render())
