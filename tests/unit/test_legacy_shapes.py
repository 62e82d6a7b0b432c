"""The earlier system's messages, of records of our topics; and its tickers, of messages of exchanges."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from app.errors import BadInput
from app.feed.exchanges.day import computed_day, told_day
from app.sidecar.legacy.subjects import alert_messages, metric_messages
from app.wire.barrier import Barrier
from app.wire.frames import FrameInfo, encode_metrics
from tests.support.alerts import make_alert
from tests.support.metric_batches import metrics_batch

MINUTE_MS = 60_000
START_MS = 1_709_164_800_000
KEYS = ("p", "P", "w", "c", "Q", "o", "h", "l", "v", "q", "O", "C", "n")
TOLD = {
    "p": "-1.50", "P": "-1.000", "w": "149.2", "c": "148.50", "Q": "0.003", "o": "150.00", "h": "151.00",
    "l": "148.00", "v": "12.000", "q": "1790.40", "O": 1, "C": 86_400_000, "n": 7,
}  # fmt: skip


def test_an_alert_is_one_message_under_its_own_id_without_nested_metadata():
    alert = make_alert(1)
    alert["metadata"]["seen"] = {"minute": "now"}
    [message] = alert_messages(orjson.dumps(alert), 4)
    assert message.identifier == alert["id"]
    assert orjson.loads(message.payload) == {
        "id": alert["id"],
        "time": alert["timestamp"],
        "timestamp": alert["timestamp"],
        "symbol": "BTCUSDT",
        "rule_type": alert["rule_type"],
        "description": "alert number 1",
        "price": 101.5,
        "metadata": {"price_change_5m": 1.25, "price_change_1h": -0.5, "rsi": None},
    }


def test_a_barrier_and_alerts_for_nobody_are_no_messages_and_anything_else_is_an_error():
    for mark in ("backfilled", "shadow"):
        assert list(alert_messages(orjson.dumps(make_alert(1) | {mark: True}), 0)) == []
    barrier = Barrier("one", 0).encode()
    assert (list(alert_messages(barrier, 0)), list(metric_messages(barrier, 0))) == ([], [])
    for messages in (alert_messages(b"no alert", 0), metric_messages(b"no frame", 0)):
        with pytest.raises(BadInput):
            next(messages)


def frame(sent_ms: int | None) -> bytes:
    values = {"close_1m": 2.0, "quote_volume_5m": 5.0, "high_5m": 3.0, "price_change_1h": -1.0,
              "rsi_14_5m": 60.0, "macd_hist_5m": 0.5, "fib_r2_1d": 9.0}  # fmt: skip
    batch = metrics_batch(
        [("AUSDT", START_MS, values), ("AUSDT", START_MS + MINUTE_MS, values), ("BUSDT", START_MS, {})]
    )
    batch.closed[2] = False
    return encode_metrics(batch, FrameInfo({} if sent_ms is None else {"calculator": sent_ms}))


def test_closed_minutes_are_messages_with_null_for_null():
    first, second = metric_messages(frame(START_MS + 2 * MINUTE_MS), 120_000)
    assert first.identifier.startswith(f"AUSDT-{START_MS}-")
    assert second.identifier.startswith(f"AUSDT-{START_MS + MINUTE_MS}-")
    document = orjson.loads(first.payload)
    assert (document["symbol"], document["timestamp"]) == ("AUSDT", "2024-02-29T00:01:00.000Z")
    assert document["last_price"] == 2.0
    assert document["candle_5m"] == {"open": None, "high": 3.0, "low": None, "close": None, "volume": 5.0}
    assert set(document) == {
        "symbol", "timestamp", "last_price", "vcp", "fibonacci", "rsi", "macd",
        *(f"candle_{name}" for name in ("1m", "5m", "15m", "1h", "8h", "1d")),
        *(f"price_change_{name}" for name in ("5m", "15m", "1h", "8h", "1d")),
        *(f"volume_ratio_{name}" for name in ("5m", "15m", "1h", "8h")),
    }  # fmt: skip
    assert (document["price_change_1h"], document["price_change_8h"], document["rsi"]) == (-1.0, None, 60.0)
    assert document["macd"] == {"macd": None, "signal": None, "histogram": 0.5}
    assert document["fibonacci"] == {
        "pivot": None, "resistance1": None, "resistance0618": 9.0, "resistance0382": None,
        "support0382": None, "support0618": None, "support1": None,
    }  # fmt: skip


def test_a_correction_has_another_identifier_and_a_repeat_the_same():
    first, _ = metric_messages(frame(START_MS + MINUTE_MS), 0)
    again, _ = metric_messages(frame(START_MS + 2 * MINUTE_MS), 0)
    corrected = metrics_batch([("AUSDT", START_MS, {"close_1m": 2.5})])
    [other] = metric_messages(encode_metrics(corrected), 0)
    assert first.identifier == again.identifier != other.identifier


def test_minutes_long_over_when_they_were_calculated_are_left_out():
    late_ms = START_MS + MINUTE_MS + 120_001
    assert len(list(metric_messages(frame(late_ms), 120_000))) == 1
    assert len(list(metric_messages(frame(late_ms - 1), 120_000))) == 2
    assert len(list(metric_messages(frame(late_ms + 10**9), 0))) == 2
    assert len(list(metric_messages(frame(None), 120_000))) == 2


def test_columns_that_a_frame_lacks_are_null():
    batch = metrics_batch([("AUSDT", START_MS, {"close_1m": 2.0})], columns=("close_1m",))
    [message] = metric_messages(encode_metrics(batch), 0)
    assert orjson.loads(message.payload)["vcp"] is None
    assert np.isfinite(orjson.loads(message.payload)["last_price"])


def test_a_day_keeps_the_digits_that_the_exchange_writes():
    day = told_day(TOLD, KEYS)
    assert day is not None
    assert (day.price_change, day.price_change_pct, day.last_price) == ("-1.50", "-1.000", "148.50")
    assert (day.last_quantity, day.volume, day.quote_volume) == ("0.003", "12.000", "1790.40")
    assert (day.open_time_ms, day.close_time_ms, day.trades) == (1, 86_400_000, 7)


@pytest.mark.parametrize(
    "wrong",
    [{"p": "NaN"}, {"w": "1e5"}, {"Q": None}, {"v": '"'}, {"O": "soon"}, {"n": None}, {"c": "1" * 90}],
)
def test_a_day_with_a_value_that_is_no_number_is_none(wrong):
    assert told_day(TOLD | wrong, KEYS) is None
    del (partial := dict(TOLD))[next(iter(wrong))]
    assert told_day(partial, KEYS) is None


def test_a_day_is_computed_where_the_exchange_tells_prices_and_volumes_only():
    given = {"last_price": "148.50", "open_price": "150.00", "high": "151", "low": "148.0"}
    day = computed_day(**given, volume="12.000", quote_volume="1790.40", close_time_ms=86_400_007)
    assert day is not None
    assert (day.price_change, day.price_change_pct, day.weighted_average) == ("-1.50", "-1.000", "149.20")
    assert (day.open_time_ms, day.close_time_ms, day.trades, day.last_quantity) == (7, 86_400_007, 0, "0")
    still = computed_day(
        **given | {"open_price": "0"}, volume="0", quote_volume="0", close_time_ms=86_400_000
    )
    assert still is not None
    assert (still.price_change_pct, still.weighted_average) == ("0.000", "148.50")
    assert computed_day(**given | {"low": ""}, volume="1", quote_volume="1", close_time_ms=0) is None
