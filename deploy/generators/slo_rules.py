"""Generates `deploy/prometheus/rules/slo.yaml`: the objectives, and alerts on the burn rate of their error budgets.

`python deploy/generators/slo_rules.py` writes it; `make check-deploy` fails if the file is out of date.
Windows and factors are those of Google's SRE workbook, "Alerting on SLOs", for a budget of 30 days: an alert fires if
the budget burns in a long window (so it matters) and in a short one (so it continues).
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
    """`factor`: the burn rate, as a multiple of the rate that uses up the budget in 30 days. `budget`: the part of it
    that is gone after the long window."""

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
    """`bad` and `all`: PromQL rates, with `WINDOW` in place of the window. Without events there is no ratio."""

    name: str
    alert: str
    goal_pct: float
    promise: str
    bad: str
    all: str


_LATENCY: Final = "alert_engine_alert_latency_seconds"
_REQUESTS: Final = "api_gateway_http_requests_total"


def _rate(series: str) -> str:
    """Return the rate per release."""
    return f"sum by (namespace, release) (rate({series}[WINDOW]))"


_GAPS: Final = (
    f"clamp_min({_rate('screener_gaps_total')} - {_rate('data_collector_filled_minutes_total')}, 0)"
)
_ATTEMPTS: Final = (
    f"{_rate('alert_engine_webhooks_sent_total')} + {_rate('alert_engine_webhooks_failed_total')}"
)
OBJECTIVES: Final = (
    Objective(
        "alert-latency",
        "ScreenerAlertLatencyBudgetBurn",
        99.0,
        "of alerts are in Kafka within 0.5 s of the arrival of their candle",
        _rate(f"{_LATENCY}_count") + " - " + _rate(f'{_LATENCY}_bucket{{le="0.5"}}'),
        _rate(f"{_LATENCY}_count"),
    ),
    Objective(
        "ingest-completeness",
        "ScreenerIngestCompletenessBudgetBurn",
        99.9,
        "of the minutes between two closed candles of a symbol arrive",
        _GAPS,
        f"{_rate('data_collector_closed_minutes_total')} + {_GAPS}",
    ),
    Objective(
        "api",
        "ScreenerApiBudgetBurn",
        99.9,
        "of requests are answered without a server error (5xx)",
        _rate(f'{_REQUESTS}{{status=~"5.."}}') + " or 0 * " + _rate(_REQUESTS),
        _rate(_REQUESTS),
    ),
    Objective(
        "webhooks",
        "ScreenerWebhookBudgetBurn",
        99.0,
        "of attempts to deliver a webhook succeed",
        _rate("alert_engine_webhooks_failed_total"),
        _ATTEMPTS,
    ),
)


def rules() -> dict[str, Any]:
    """Return the content of the file."""
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
                f"The objective is that {objective.goal_pct:g} % {objective.promise}. Over the last {burn.long} and "
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
