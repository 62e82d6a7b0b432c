"""The plots of a backtest's report, as SVG: alerts over time, sums of returns over time, and distributions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

from app.backtest.outcomes import Distribution, Outcome, RuleOutcome, Stretch
from app.candles.batch import MINUTE_MS
from app.times import rfc3339

WIDTH: Final = 720
_LEFT: Final = 46
_BARS: Final = 120
_LINES: Final = ("line-1", "line-2", "line-3", "line-4")
"""Classes of the page's style, one per horizon."""


@dataclass(frozen=True, slots=True)
class Period:
    """Open times of the first and the last minute, UTC ms."""

    first_ms: int
    last_ms: int

    def x(self, time_ms: float) -> float:
        span_ms = max(MINUTE_MS, self.last_ms - self.first_ms)
        share = min(1.0, max(0.0, (time_ms - self.first_ms) / span_ms))
        return _LEFT + share * (WIDTH - _LEFT)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values from low to high on y from bottom to top."""

    low: float
    high: float
    top: float
    bottom: float
    whole: bool = False
    """Whether the values are whole numbers."""

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.bottom - share * (self.bottom - self.top)

    def axis(self, unit: str) -> str:
        """Return horizontal lines with their values."""
        return "".join(
            f'<line class="axis" x1="{_LEFT}" y1="{self.y(at):.1f}" x2="{WIDTH}" y2="{self.y(at):.1f}"/>'
            f'<text x="{_LEFT - 4}" y="{self.y(at) + 3:.1f}" text-anchor="end">{_short(at)}{unit}</text>'
            for at in ticks(self.low, self.high)
            if not self.whole or at % 1 == 0
        )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values from low to high, at most about so many; low alone if both are the same."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** floor(log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first, last = -floor(-low / step + 1e-9), floor(high / step + 1e-9)
    return [round(at * step, 12) for at in range(first, last + 1)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def timeline(found: RuleOutcome, period: Period) -> str:
    """Draw how many alerts came in equal stretches of time."""
    if not found.stretches:
        return ""
    span_ms = max(MINUTE_MS, period.last_ms - period.first_ms + MINUTE_MS)
    counts: dict[int, int] = {}
    for stretch in found.stretches:
        at = min(_BARS - 1, max(0, (stretch.start_ms - period.first_ms) * _BARS // span_ms))
        counts[at] = counts.get(at, 0) + stretch.fires
    scale = _Scale(0, max(counts.values()), 8, 62, whole=True)
    width = (WIDTH - _LEFT) / _BARS
    bars = "".join(
        f'<rect class="alert" x="{_LEFT + at * width:.1f}" y="{scale.y(count):.1f}" width="{width - 0.6:.1f}" '
        f'height="{62 - scale.y(count):.1f}"/>'
        for at, count in sorted(counts.items())
    )
    length = _length(span_ms / _BARS)
    title = f"{found.rule_type}: alerts over time, each bar {length}"
    return figure(78, title, scale.axis("") + bars + _times(period, 75))


def curves(found: RuleOutcome, period: Period) -> str:
    """Draw the running sum of the returns after each horizon, and dashed what random entries would have given."""
    if not any(outcome.known for outcome in found.outcomes):
        return ""
    paths = [_running(found.stretches, at, outcome) for at, outcome in enumerate(found.outcomes)]
    values = [value for path in paths for _, *both in path for value in both if value is not None]
    scale = _Scale(min(0.0, *values), max(0.0, *values), 22, 172)
    lines = "".join(
        _line(path, 2, f"{style} dashed", period, scale) + _line(path, 1, style, period, scale)
        for path, style in zip(paths, _LINES, strict=False)
    )
    title = (
        f"{found.rule_type}: sum of the returns in percent, one equal stake for each alert, without costs; "
        "dashed: random entries"
    )
    names = [f"after {outcome.horizon}" for outcome in found.outcomes]
    return figure(190, title, legend(names) + scale.axis(" %") + lines + _times(period, 187))


_Running = tuple[int, float, float | None]
"""Time (UTC ms), sum of the alerts' returns so far, and that of as many random entries on average."""


def _running(stretches: Sequence[Stretch], at: int, outcome: Outcome) -> list[_Running]:
    total, known = 0.0, 0
    random = outcome.random.mean_pct
    path: list[_Running] = []
    for stretch in stretches:
        total += stretch.sum_pct[at]
        known += stretch.known[at]
        path.append((stretch.start_ms, total, None if random is None else random * known))
    return path


def _line(path: Sequence[_Running], which: int, style: str, period: Period, scale: _Scale) -> str:
    """Draw steps: a sum stays until the next alert."""
    points = [f"M{period.x(period.first_ms):.1f} {scale.y(0):.1f}"]
    for step in path:
        value = step[which]
        if value is None:
            return ""
        points.append(f"H{period.x(step[0]):.1f}V{scale.y(value):.1f}")
    points.append(f"H{period.x(period.last_ms):.1f}")
    return f'<path class="{style}" d="{"".join(points)}"/>'


def legend(names: Sequence[str]) -> str:
    parts = []
    for at, (name, style) in enumerate(zip(names, _LINES, strict=False)):
        x = _LEFT + at * 110
        parts.append(f'<path class="{style}" d="M{x} 10h22"/><text x="{x + 27}" y="13">{escape(name)}</text>')
    return "".join(parts)


def distributions(found: RuleOutcome) -> str:
    """Draw, for each horizon, how the returns of the alerts lie beside those of random entries."""
    shown = [(outcome.horizon, outcome.distribution) for outcome in found.outcomes]
    panels = [(horizon, drawn) for horizon, drawn in shown if drawn is not None]
    if not panels:
        return ""
    width = WIDTH / max(len(panels), 2)
    body = "".join(
        _panel(horizon, drawn, at * width + 12, width - 28) for at, (horizon, drawn) in enumerate(panels)
    )
    key = (
        '<rect class="alert" x="0" y="5" width="12" height="8"/><text x="17" y="13">alerts</text>'
        '<path class="random-line" d="M70 10h22"/><text x="97" y="13">random entries</text>'
        f'<text x="{WIDTH}" y="13" text-anchor="end">the outer bars hold what lies beyond too</text>'
    )
    title = f"{found.rule_type}: shares of the returns in percent, of alerts and of random entries"
    return figure(150, title, key + body)


def _panel(horizon: str, drawn: Distribution, left: float, width: float) -> str:
    highest = max((*drawn.alerts, *drawn.random))
    scale = _Scale(0, highest, 36, 126)
    step = width / len(drawn.alerts)
    bars = "".join(
        f'<rect class="alert" x="{left + at * step:.1f}" y="{scale.y(share):.1f}" width="{step - 0.4:.1f}" '
        f'height="{126 - scale.y(share):.1f}"/>'
        for at, share in enumerate(drawn.alerts)
        if share
    )
    outline = "".join(f"V{scale.y(share):.1f}h{step:.2f}" for share in drawn.random)
    random = f'<path class="random-line" d="M{left:.1f} 126{outline}V126"/>' if outline else ""
    return bars + random + "".join(_panel_axis(horizon, drawn, left, width, highest))


def _panel_axis(
    horizon: str, drawn: Distribution, left: float, width: float, highest: float
) -> Iterator[str]:
    yield f'<line class="axis" x1="{left:.1f}" y1="126" x2="{left + width:.1f}" y2="126"/>'
    yield f'<text x="{left:.1f}" y="31">after {escape(horizon)}; highest {highest * 100:.1f} %</text>'
    span = drawn.highest_pct - drawn.lowest_pct
    for value in ticks(drawn.lowest_pct, drawn.highest_pct):
        x = left + (value - drawn.lowest_pct) / span * width
        yield f'<line class="axis" x1="{x:.1f}" y1="126" x2="{x:.1f}" y2="130"/>'
        yield f'<text x="{x:.1f}" y="141" text-anchor="middle">{_short(value)} %</text>'


def _length(span_ms: float) -> str:
    minutes = max(1, round(span_ms / MINUTE_MS))
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 2880 else f"{minutes / 1440:.1f} days"


def _times(period: Period, y: int) -> str:
    """Return four times along the axis."""
    texts = []
    for at, anchor in ((0, "start"), (1, "middle"), (2, "middle"), (3, "end")):
        time_ms = period.first_ms + (period.last_ms - period.first_ms) * at // 3
        words = rfc3339(time_ms)[:16].replace("T", " ")
        texts.append(f'<text x="{period.x(time_ms):.1f}" y="{y}" text-anchor="{anchor}">{words}</text>')
    return "".join(texts)


def figure(height: int, title: str, shapes: str) -> str:
    """Return a plot with its title above; the title is also its label for screen readers."""
    words = escape(title)
    return (
        f"<figure><figcaption>{words}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{words}">{shapes}</svg></figure>'
    )
