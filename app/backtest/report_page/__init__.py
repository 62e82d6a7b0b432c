"""The report of a backtest as one self-contained HTML page: styles and plots (SVG) inside."""

from __future__ import annotations

from html import escape
from importlib import resources
from math import isnan
from string import Template

from app.backtest.outcomes import Outcome, RuleOutcome
from app.backtest.report import Report
from app.backtest.report_page.plots import Period, curves, distributions, timeline
from app.rules.rule import Rule
from app.times import rfc3339

_SIGNIFICANT = 0.05


def render(report: Report, title: str = "Backtest") -> str:
    """Return a whole HTML document."""
    rules = {rule.rule_type: rule for rule in report.rules}
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{report.counts.candles:,} candles of {report.symbols:,} symbols, "
        f"{rfc3339(report.first_ms)} to {rfc3339(report.last_ms)}, rules in {escape(report.mode)} mode: "
        f"{report.alerts:,} alerts.</p>",
        "<p>Returns are in percent from the close at the alert. Random entries are the alerts moved together "
        "in time; p is the chance that such a move does as well or as badly on average. With many rules "
        "and horizons some p below 0.05 are chance.</p>",
    ]
    if silent := report.silent():
        parts.append(
            f"<p>Could not fire, because history or metrics are missing: {escape(', '.join(silent))}.</p>"
        )
    parts += [_compared(report)] if report.comparison is not None else []
    parts += [_section(report, outcome, rules.get(outcome.rule_type)) for outcome in report.outcomes]
    template = Template(
        resources.files("app.backtest.report_page").joinpath("page.html").read_text(encoding="utf-8")
    )
    return template.substitute(title=escape(title), body="\n".join(parts))


def _section(report: Report, outcome: RuleOutcome, rule: Rule | None) -> str:
    text = f"<p>{escape(rule.description)}</p><code>{escape(rule.expression)}</code>" if rule else ""
    head = (
        "<tr><th>after</th><th>alerts</th><th>mean %</th><th>random</th><th>median %</th><th>random</th>"
        "<th>above 0</th><th>random</th><th>p</th></tr>"
    )
    rows = "".join(_row(found) for found in outcome.outcomes)
    period = Period(report.first_ms, report.last_ms)
    sampled = (
        f"; medians, distributions and random entries are of {outcome.sampled:,} of them, chosen at random"
        if outcome.sampled < outcome.fires
        else ""
    )
    return (
        f"<section><h2>{escape(outcome.rule_type)}</h2>{text}"
        f"<p>{outcome.fires:,} alerts, {outcome.per_day:,.1f} a day, {outcome.symbols:,} symbols{sampled}</p>"
        f"<table>{head}{rows}</table>{timeline(outcome, period)}{curves(outcome, period)}"
        f"{distributions(outcome)}{_months(outcome)}{_newest(outcome)}</section>"
    )


def _months(outcome: RuleOutcome) -> str:
    if not outcome.months:
        return ""
    horizons = [found.horizon for found in outcome.outcomes]
    head = "".join(f"<th>mean % after {escape(horizon)}</th><th>above 0</th>" for horizon in horizons)
    rows = []
    for month in outcome.months:
        cells = "".join(
            f"<td>{_number(month.mean_pct(at), '{:+.3f}')}</td><td>{_number(month.hit_pct(at), '{:.1f}')}</td>"
            for at in range(len(horizons))
        )
        rows.append(f"<tr><td>{rfc3339(month.start_ms)[:7]}</td><td>{month.fires:,}</td>{cells}</tr>")
    return f"<h3>By month</h3><table><tr><th>month</th><th>alerts</th>{head}</tr>{''.join(rows)}</table>"


def _newest(outcome: RuleOutcome) -> str:
    if not outcome.newest:
        return ""
    more = outcome.fires - len(outcome.newest)
    title = f"The last {len(outcome.newest):,} of {outcome.fires:,} alerts" if more else "All alerts"
    head = "".join(f"<th>% after {escape(found.horizon)}</th>" for found in outcome.outcomes)
    rows = []
    for alert in reversed(outcome.newest):
        time = rfc3339(alert.entry.open_time_ms)[:16].replace("T", " ")
        returns = "".join(
            f"<td>{_number(None if isnan(value) else value, '{:+.3f}')}</td>" for value in alert.returns_pct
        )
        symbol = escape(alert.entry.symbol)
        rows.append(f"<tr><td>{time}</td><td>{symbol}</td><td>{alert.price:.8g}</td>{returns}</tr>")
    return (
        f'<h3>{title}</h3><div class="list" tabindex="0"><table><tr><th>minute (UTC)</th><th>symbol</th>'
        f"<th>price</th>{head}</tr>{''.join(rows)}</table></div>"
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


def _compared(report: Report) -> str:
    if report.comparison is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(rule)}</td>" + "".join(f"<td>{count:,}</td>" for count in counts) + "</tr>"
        for rule, counts in report.comparison.counts().items()
    )
    head = "<tr><th>rule</th><th>kept</th><th>added</th><th>removed</th><th>moved</th></tr>"
    return f"<section><h2>Effect of the other rules</h2><table>{head}{rows}</table></section>"
