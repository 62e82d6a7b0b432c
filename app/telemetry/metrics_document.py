"""`deploy/METRICS.md`: every metric, generated from the metric objects.

`python -m app.telemetry.metrics_document > deploy/METRICS.md` updates it; a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.library_internals import bucket_bounds, label_names
from app.telemetry.catalogue import GROUPS, ROLE_PORTS, MetricGroup, described

_HEADER = """\
# Metrics

Written by `python -m app.telemetry.metrics_document`. Every role serves `/metrics` on its port:

| role | port |
|---|---|
{ports}

The sidecar serves the same page on its port 8080. In a worker of the role `all` each of the three ports has only the
metrics of its own role. Metrics of the process (`screener_ready`, `screener_event_loop_lag_seconds`,
`process_*`, `python_*`, ...) are on all three: aggregate them with `max`, not with `sum`. A histogram `x` has
`x_bucket`, `x_sum` and `x_count`; mean values are recording rules (`..._avg`, see `prometheus/rules/recording.yaml`).
Labels have closed sets of values, except `rule_type` (the rules that exist) and `shard` / `partition` (their number
is a setting). `process_*` and `python_*` come from the Prometheus client library.
"""


def render() -> str:
    """Return the whole file."""
    ports = "\n".join(f"| {role} | {port} |" for role, port in ROLE_PORTS.items())
    registry = CollectorRegistry()
    sections = ["\n".join(_section(group, registry)) for group in GROUPS]
    return "\n\n".join([_HEADER.format(ports=ports), *sections]) + "\n"


def _section(group: MetricGroup, registry: CollectorRegistry) -> Iterator[str]:
    yield f"## {group.title}"
    yield f"Served by: {', '.join(group.roles)}.\n"
    yield "| name | type | labels | meaning |"
    yield "|---|---|---|---|"
    for family in group.families(registry).values():
        yield _row(family)


def _row(family: MetricWrapperBase) -> str:
    known = described(family)
    name = f"{known.name}_total" if known.type == "counter" else known.name
    labels = ", ".join(f"`{label}`" for label in label_names(family))
    text = known.documentation
    if isinstance(family, Histogram):
        bounds = bucket_bounds(family)
        text += f"; buckets {bounds[0]:g} to {bounds[-1]:g}"
    return f"| `{name}` | {known.type} | {labels} | {text} |"


if __name__ == "__main__":
    sys.stdout.write(render())
