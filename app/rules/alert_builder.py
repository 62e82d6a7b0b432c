"""The alerts of the matches that fired."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray
from app.market.metrics import MetricsBatch
from app.rules.alert import Alert, Timings, alert_id
from app.rules.cooldown import Fire
from app.times import rfc3339

INDICATOR_TIMEFRAME: Final = "5m"
"""The timeframe of `vcp` and `rsi` in the metadata."""

METADATA_COLUMNS: Final[dict[str, str]] = {
    "vcp": f"vcp_{INDICATOR_TIMEFRAME}",
    "rsi": f"rsi_14_{INDICATOR_TIMEFRAME}",
    **{f"price_change_{n}": f"price_change_{n}" for n in ("5m", "15m", "1h", "8h", "1d")},
    **{f"volume_{n}": f"quote_volume_{n}" for n in ("5m", "15m", "1h", "8h", "1d")},
    **{f"volume_ratio_{n}": f"volume_ratio_{n}" for n in ("5m", "15m", "1h", "8h")},
}
"""Key in an alert's metadata -> metric column."""


def build_alerts(fires: Sequence[Fire], batch: MetricsBatch, evaluate_ts_ms: int) -> list[Alert]:
    """Return the alerts, not yet published; null metrics are None. `batch` is the one that `fire.row` points into."""
    rows = [fire.row for fire in fires]
    events_ms, ingests_ms = batch.event_ts_ms[rows].tolist(), batch.ingest_ts_ms[rows].tolist()
    facts = zip(fires, _values(rows, batch), events_ms, ingests_ms, strict=True)
    return [
        Alert(
            id=alert_id(fire.rule.rule_type, fire.rule.version, fire.symbol, fire.open_time_ms),
            symbol=fire.symbol,
            rule_type=fire.rule.rule_type,
            rule_version=fire.rule.version,
            severity=fire.rule.severity,
            description=fire.rule.description,
            timestamp=rfc3339(about_ms(fire)),
            price=price,
            metadata=dict(zip(METADATA_COLUMNS, metadata, strict=True)) | {"seen": _seen(fire)},
            timings=Timings(event_ms, ingest_ms, evaluate_ts_ms),
            shadow=fire.rule.shadow,
        )
        for fire, (price, *metadata), event_ms, ingest_ms in facts
    ]


def build_alert(fire: Fire, batch: MetricsBatch, evaluate_ts_ms: int) -> Alert:
    """Return the alert of one fire, as `build_alerts` does."""
    return build_alerts([fire], batch, evaluate_ts_ms)[0]


def about_ms(fire: Fire) -> int:
    """Return the time (UTC ms) that an alert is about, its `timestamp`: the end of the minute in close mode, the
    event time in live mode."""
    return fire.open_time_ms + MINUTE_MS if fire.mode == "close" else fire.event_ts_ms


def _seen(fire: Fire) -> dict[str, object]:
    """Return the values the rule saw: at most 16 KB by the limits of an expression, usually some hundred bytes."""
    return {
        "minute": rfc3339(fire.open_time_ms),
        "expression": fire.rule.expression,
        "values": fire.seen,
    }


def _values(rows: list[int], batch: MetricsBatch) -> list[list[float | None]]:
    """Return by row the price, then the metadata; None for null and for a column missing in the batch."""
    places, held = _columns(batch.columns)
    found = np.where(held, batch.values[np.array(rows)[:, np.newaxis], places], np.nan)
    values = found.astype(object)
    values[~np.isfinite(found)] = None
    listed: list[list[float | None]] = values.tolist()
    return listed


@lru_cache(maxsize=8)
def _columns(columns: tuple[str, ...]) -> tuple[NDArray[np.intp], BoolArray]:
    """Return the positions of an alert's values among a batch's columns, and which of them exist."""
    position = {name: at for at, name in enumerate(columns)}
    wanted = ("close_1m", *METADATA_COLUMNS.values())
    places = np.array([position.get(name, 0) for name in wanted], dtype=np.intp)
    return places, np.array([name in position for name in wanted])
