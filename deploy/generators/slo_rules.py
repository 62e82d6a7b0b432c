"""`deploy/prometheus/rules/slo.yaml`: the objectives, how fast their error budgets burn, and who is told.

`python deploy/generators/slo_rules.py` writes it; `make check-deploy` says when it is not what this would write.
Windows and factors are those of Google's SRE workbook, "Alerting on SLOs", for a budget of 30 days: an alert needs a
long window to burn (it matters) and a short one too (it still goes on).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

TARGET: Final = Path(__file__).parents[1] / "prometheus" / "rules" / "slo.yaml"
RUNBOOKS: Final = "https://screener.example/runbooks"
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True)
class Burn:
    """`factor` times the even rate; `budget`: what part of 30 days' budget is gone when the long window is full."""

    severity: str
    factor: float
    long: str
    short: str
    budget: str
    wait: str


BURNS: Final = (
    Burn("critical", 14.4, "1h", "5m", "2 %", "2m"),
    Burn("critical", 6.0, "6h", "30m", "5 %", "5m"),
    Burn("warning", 3.0, "1d", "2h", "10 %", "10m"),
    Burn("warning", 1.0, "3d", "6h", "10 %", "15m"),
)


@dataclass(frozen=True)
class Objective:
    """`bad` and `all`: PromQL of rates with `WINDOW` for the window; without events there is no ratio at all."""

    name: str
    alert: str
    goal_pct: float
    promise: str
    bad: str
    all: str


_LATENCY: Final = "alert_engine_alert_latency_seconds"
_GAPS: Final = (
    "clamp_min("
    "sum(rate(screener_gaps_total[WINDOW])) - sum(rate(data_collector_filled_minutes_total[WINDOW]))"
    ", 0)"
)
_ATTEMPTS: Final = (
    "sum(rate(alert_engine_webhooks_sent_total[WINDOW]))"
    " + sum(rate(alert_engine_webhooks_failed_total[WINDOW]))"
)
OBJECTIVES: Final = (
    Objective(
        "alert-latency",
        "ScreenerAlertLatencyBudgetBurn",
        99.0,
        "of alerts are in Kafka within 0.5 s of the first sight of their candle",
        f'sum(rate({_LATENCY}_count[WINDOW])) - sum(rate({_LATENCY}_bucket{{le="0.5"}}[WINDOW]))',
        f"sum(rate({_LATENCY}_count[WINDOW]))",
    ),
    Objective(
        "ingest-completeness",
        "ScreenerIngestCompletenessBudgetBurn",
        99.9,
        "of the minutes between two closed candles of a symbol arrive",
        _GAPS,
        f"sum(rate(data_collector_closed_minutes_total[WINDOW])) + {_GAPS}",
    ),
    Objective(
        "api",
        "ScreenerApiBudgetBurn",
        99.9,
        "of requests are answered without a fault of ours (5xx)",
        'sum(rate(api_gateway_http_requests_total{status=~"5.."}[WINDOW])) or vector(0)',
        "sum(rate(api_gateway_http_requests_total[WINDOW]))",
    ),
    Objective(
        "webhooks",
        "ScreenerWebhookBudgetBurn",
        99.0,
        "of attempts to deliver a webhook succeed",
        "sum(rate(alert_engine_webhooks_failed_total[WINDOW]))",
        _ATTEMPTS,
    ),
)


def rules() -> dict[str, Any]:
    """The file as data."""
    groups = []
    for objective in OBJECTIVES:
        recorded = [_ratio(objective, window) for window in WINDOWS]
        alerts = [_alert(objective, burn) for burn in BURNS]
        groups.append({"name": f"screener-slo-{objective.name}", "rules": [*recorded, *alerts]})
    return {"groups": groups}


def _ratio(objective: Objective, window: str) -> dict[str, Any]:
    bad, every = (text.replace("WINDOW", window) for text in (objective.bad, objective.all))
    return {
        "record": f"slo:sli_error:ratio_rate{window}",
        "expr": f"({bad}) / (({every}) > 0)",
        "labels": {"slo": objective.name},
    }


def _alert(objective: Objective, burn: Burn) -> dict[str, Any]:
    limit = f"{burn.factor:g} * {(100 - objective.goal_pct) / 100:.4g}"
    series = f'{{slo="{objective.name}"}} > {limit}'
    return {
        "alert": objective.alert,
        "expr": f"slo:sli_error:ratio_rate{burn.long}{series} and slo:sli_error:ratio_rate{burn.short}{series}",
        "for": burn.wait,
        "labels": {"severity": burn.severity, "long_window": burn.long},
        "annotations": {
            "summary": f"The error budget of {objective.name} burns {burn.factor:g} times too fast",
            "description": (
                f"The promise is that {objective.goal_pct:g} % {objective.promise}. Over the last {burn.long} and "
                f"{burn.short} {{{{ $value | humanizePercentage }}}} did not: {burn.budget} of 30 days' budget in "
                f"{burn.long}."
            ),
            "runbook_url": f"{RUNBOOKS}/{objective.alert}.md",
        },
    }


def render() -> str:
    header = (
        "# Written by deploy/generators/slo_rules.py, which says what the numbers mean.\n"
        "# yamllint disable rule:line-length\n"
    )
    return header + yaml.safe_dump(rules(), sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(render())
    else:
        TARGET.write_text(render())
