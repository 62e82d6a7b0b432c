"""The parts of a Grafana dashboard that ours need, in the JSON model of Grafana 11 (schemaVersion 39)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
HERE: Final = 'namespace=~"$namespace", release=~"$release", job=~"$job", instance=~"$instance"'
"""The matchers that every selector carries."""
_COLUMNS: Final = 24


@dataclass(frozen=True)
class Panel:
    """targets: (PromQL, legend). In PromQL, HERE stands for the matchers and [RATE] for `[$__rate_interval]`.

    kind: timeseries, stat or bargauge. limits: (value, colour from there on).
    """

    title: str
    description: str
    unit: str
    targets: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    limits: tuple[tuple[float, str], ...] = ()

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
            "targets": [self._target(at, *target) for at, target in enumerate(self.targets)],
        }

    def _target(self, at: int, expression: str, legend: str) -> dict[str, Any]:
        return {
            "refId": chr(ord("A") + at),
            "datasource": DATASOURCE,
            "expr": expression.replace("HERE", HERE).replace("[RATE]", "[$__rate_interval]"),
            "legendFormat": legend,
            "range": self.kind == "timeseries",
            "instant": self.kind != "timeseries",
        }

    def _defaults(self) -> dict[str, Any]:
        # a limit that begins the good range makes values below it bad
        below = "red" if self.limits and self.limits[0][1] == "green" else "green"
        steps = [{"color": below, "value": None}]
        steps += [{"color": colour, "value": value} for value, colour in self.limits]
        defaults: dict[str, Any] = {"unit": self.unit, "thresholds": {"mode": "absolute", "steps": steps}}
        if self.kind == "timeseries":
            defaults["min"] = 0
            defaults["color"] = {"mode": "palette-classic"}
            defaults["custom"] = {
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": 30 if self.stacked else 10,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": "normal" if self.stacked else "none"},
                "thresholdsStyle": {"mode": "line" if self.limits else "off"},
            }
        return defaults

    def _options(self) -> dict[str, Any]:
        if self.kind == "timeseries":
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
        }


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = field(default=False)


@dataclass(frozen=True)
class Dashboard:
    """jobs: a regular expression for the Prometheus jobs that it shows."""

    uid: str
    title: str
    description: str
    jobs: str
    rows: tuple[Row, ...]

    def json(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["screener"],
            "editable": False,
            "graphTooltip": 1,
            "schemaVersion": 39,
            "version": 1,
            "timezone": "utc",
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "annotations": {"list": []},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Screener",
                    "tags": ["screener"],
                    "asDropdown": True,
                    "includeVars": False,
                    "keepTime": True,
                }
            ],
            "templating": {"list": self._variables()},
            "panels": self._panels(),
        }

    def _variables(self) -> list[dict[str, Any]]:
        datasource = {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
        }
        # Compose's targets have no namespace or release: "All" must also match a missing label
        where = 'namespace=~"$namespace", release=~"$release"'
        namespace = _query_variable(
            "namespace", "Namespace", f'label_values(up{{job=~"{self.jobs}"}}, namespace)', ".*"
        )
        release = _query_variable(
            "release", "Release", f'label_values(up{{job=~"{self.jobs}"}}, release)', ".*"
        )
        job = _query_variable("job", "Job", f'label_values(up{{{where}, job=~"{self.jobs}"}}, job)')
        instance = _query_variable(
            "instance", "Instance", f'label_values(up{{{where}, job=~"$job"}}, instance)'
        )
        return [datasource, namespace, release, job, instance]

    def _panels(self) -> list[dict[str, Any]]:
        panels: list[dict[str, Any]] = []
        y = 0
        for row in self.rows:
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
                    "panels": [],
                }
            )
            y += 1
            x = height = 0
            for panel in row.panels:
                if x + panel.width > _COLUMNS:
                    x, y, height = 0, y + height, 0
                panels.append(panel.json(len(panels) + 1, x, y))
                x, height = x + panel.width, max(height, panel.height)
            y += height
        return panels


def _query_variable(name: str, label: str, query: str, every: str = ".+") -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        # 2: query again when the time range changes
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": every,
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
        "hide": 0,
    }
