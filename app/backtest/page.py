"""The report of a backtest as one HTML page that needs nothing else: styles and plots (SVG) inside."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template

import numpy as np

from app.backtest.outcomes import Outcome, RuleOutcome
from app.backtest.report import Report
from app.candles.batch import MINUTE_MS
from app.rules.alert import rfc3339
from app.rules.rule import Rule

_SIGNIFICANT = 0.05
_BUCKETS = 120


def render(report: Report, title: str = "Backtest") -> str:
    """A whole HTML document."""
    rules = {rule.rule_type: rule for rule in report.rules}
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{report.counts.candles:,} candles of {report.symbols:,} symbols, "
        f"{rfc3339(report.first_ms)} to {rfc3339(report.last_ms)}, rules in {escape(report.mode)} mode: "
        f"{len(report.entries):,} alerts.</p>",
        "<p>Returns are in percent from the close at the alert. Random entries are the alerts moved together "
        "in time; p is the chance that such a move does as well or as badly on average. With many rules "
        "and horizons some p below 0.05 are chance.</p>",
    ]
    if silent := report.silent():
        parts.append(f"<p>Could not fire, for want of history or metrics: {escape(', '.join(silent))}.</p>")
    parts += [_compared(report)] if report.comparison is not None else []
    parts += [_section(report, outcome, rules.get(outcome.rule_type)) for outcome in report.outcomes]
    template = Template(resources.files("app.backtest").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), body="\n".join(parts))


def _section(report: Report, outcome: RuleOutcome, rule: Rule | None) -> str:
    text = f"<p>{escape(rule.description)}</p><code>{escape(rule.expression)}</code>" if rule else ""
    head = (
        "<tr><th>after</th><th>alerts</th><th>mean %</th><th>random</th><th>median %</th><th>random</th>"
        "<th>above 0</th><th>random</th><th>p</th></tr>"
    )
    rows = "".join(_row(found) for found in outcome.outcomes)
    plots = _timeline(report, outcome.rule_type), _bars(outcome.outcomes)
    return (
        f"<section><h2>{escape(outcome.rule_type)}</h2>{text}"
        f"<p>{outcome.fires:,} alerts, {outcome.per_day:,.1f} a day, {outcome.symbols:,} symbols</p>"
        f"{plots[0]}<table>{head}{rows}</table>{plots[1]}</section>"
    )


def _row(outcome: Outcome) -> str:
    alerts, random = outcome.alerts, outcome.random
    pairs = (
        (alerts.mean_pct, random.mean_pct, "{:+.3f}"),
        (alerts.median_pct, random.median_pct, "{:+.3f}"),
        (alerts.hit_pct, random.hit_pct, "{:.1f}"),
    )
    cells = "".join(f"<td>{_number(a, form)}</td><td>{_number(b, form)}</td>" for a, b, form in pairs)
    significant = ' class="yes"' if outcome.p_value is not None and outcome.p_value < _SIGNIFICANT else ""
    p_value = f"<td{significant}>{_number(outcome.p_value, '{:.3f}')}</td>"
    return f"<tr><td>{escape(outcome.horizon)}</td><td>{outcome.known:,}</td>{cells}{p_value}</tr>"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _timeline(report: Report, rule_type: str) -> str:
    """Alerts over the period, in equal stretches of time."""
    times = [entry.open_time_ms for entry in report.entries if entry.rule_type == rule_type]
    if not times:
        return ""
    span_ms = max(1, report.minutes) * MINUTE_MS
    at = (np.array(times) - report.first_ms) * _BUCKETS // span_ms
    counts = np.bincount(at, minlength=_BUCKETS)
    highest = int(counts.max())
    bars = "".join(
        f'<rect class="alert" x="{at * 6}" y="{50 - 46 * count / highest:.1f}" width="5" '
        f'height="{46 * count / highest:.1f}"/>'
        for at, count in enumerate(counts.tolist())
        if count
    )
    label = (
        f"{rule_type}: alerts over time, at most {highest} in {span_ms / _BUCKETS / MINUTE_MS:.0f} minutes"
    )
    first, last = rfc3339(report.first_ms)[:16], rfc3339(report.last_ms)[:16]
    axis = (
        f'<line class="axis" x1="0" y1="50" x2="720" y2="50"/><text x="0" y="60">{first}</text>'
        f'<text x="720" y="60" text-anchor="end">{last}</text>'
    )
    return _svg(62, escape(label), bars + axis)


def _svg(height: int, label: str, shapes: str) -> str:
    head = f'<svg viewBox="0 0 720 {height}" role="img" aria-label="{label}"><title>{label}</title>'
    return f"{head}{shapes}</svg>"


def _bars(outcomes: tuple[Outcome, ...]) -> str:
    """Mean return after each horizon, of the alerts and of random entries."""
    means = [
        mean
        for found in outcomes
        for mean in (found.alerts.mean_pct, found.random.mean_pct)
        if mean is not None
    ]
    largest = max((abs(mean) for mean in means), default=0.0)
    if largest == 0:
        return ""
    shapes = []
    for at, found in enumerate(outcomes):
        for shift, kind, mean in ((0, "alert", found.alerts.mean_pct), (34, "random", found.random.mean_pct)):
            height = 0.0 if mean is None else abs(mean) / largest * 40
            x, y = at * 180 + 50 + shift, 50 - (height if mean is not None and mean > 0 else 0)
            shapes.append(f'<rect class="{kind}" x="{x}" y="{y:.1f}" width="30" height="{height:.1f}"/>')
        shapes.append(
            f'<text x="{at * 180 + 82}" y="108" text-anchor="middle">{escape(found.horizon)}</text>'
        )
    label = f"Mean return of the alerts (coloured) and of random entries (grey), up to {largest:.2f} %"
    axis = '<line class="axis" x1="0" y1="50" x2="720" y2="50"/>'
    return _svg(112, label, "".join(shapes) + axis)


def _compared(report: Report) -> str:
    if report.comparison is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(rule)}</td>" + "".join(f"<td>{count:,}</td>" for count in counts) + "</tr>"
        for rule, counts in report.comparison.counts().items()
    )
    head = "<tr><th>rule</th><th>kept</th><th>added</th><th>removed</th><th>moved</th></tr>"
    return f"<section><h2>What the other rules would change</h2><table>{head}{rows}</table></section>"
