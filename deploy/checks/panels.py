"""The dashboards' panels and their PromQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from programs import ROOT

FOLDER: Final = ROOT / "deploy" / "grafana" / "dashboards"
FILES: Final = sorted(FOLDER.glob("*.json"))
LOADED: Final[dict[str, dict[str, Any]]] = {path.stem: json.loads(path.read_text()) for path in FILES}
"""File name without its extension -> dashboard."""
_VARIABLES: Final = {"namespace": ".*", "release": ".*", "instance": ".+"}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]


def plain(expression: str, rate_interval: str = "1m", job: str = ".+") -> str:
    """Return PromQL as Grafana would send it, with all values of the variables selected."""
    for name, value in {"__rate_interval": rate_interval, "job": job, **_VARIABLES}.items():
        expression = expression.replace(f"${name}", value)
    return expression


def jobs(dashboard: dict[str, Any]) -> str:
    """Return the regular expression for the dashboard's jobs."""
    (query,) = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["name"] == "job"]
    return str(query.rpartition('job=~"')[2].partition('"')[0])
