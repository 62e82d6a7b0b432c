"""Mutated input from outside: NATS messages, frames of candles, bars and metrics, alerts, reports of gaps.

Each input goes through the code that a role runs on it, up to the pure steps of the stages. Two outcomes are allowed:
the input is rejected (BadInput), or its rows are within their bounds. Any other exception would end a role, and is
raised.

    python -m tests.fuzz.entry --inputs 1000000
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson

from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.known_minutes import Gap, KnownMinutes
from app.candles.open_gaps import OpenGaps
from app.candles.symbols import is_symbol
from app.candles.validity import check, is_time
from app.errors import BadInput
from app.market.matrix import MarketMatrix
from app.market.rings.packing import unpack_minute
from app.rules.alert_builder import build_alerts
from app.rules.cooldown import decide
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from app.sidecar.live.alert_log import LoggedAlert
from app.sidecar.live.latest_values import CandleValues
from app.sidecar.rest.metrics_json import EncodedMetrics
from app.sidecar.state.latest import LatestMetrics
from app.sinks.metric_rows import metric_rows
from app.sinks.tables import decoded_alert
from app.times import rfc3339
from app.wire.barrier import Barrier
from app.wire.frames import (
    FrameInfo,
    decode_bars,
    decode_candles,
    decode_metrics,
    encode_bars,
    encode_candles,
    encode_metrics,
    is_bars,
)
from app.wire.gap_reports import decode_gaps, encode_gaps
from app.wire.nats.candles import parse

NOW_MS: Final = 1_700_000_040_000
_MAX_BYTES: Final = 65_536
_FORGET_EVERY: Final = 300
"""The number of inputs after which the stages start afresh: other code bounds the symbols that they hold."""
_SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "1000PEPEUSDT", "\u9f99\u867eUSDT", "BTC-26SEP25")
_COLUMNS: Final = ("close_1m", "price_change_5m", "quote_volume_5m", "rsi_14_15m")
_RULES: Final = (
    Rule("risen", "price_change_5m > 0", "high", cooldown_s=0, mode="live"),
    Rule("known", "close_1m > 0 and prev(close_1m) > 0", "info", cooldown_s=60, mode="close"),
    Rule("crossed", "crosses_above(rsi_14_15m, 50)", "info", cooldown_s=0, mode="live", hold_s=0),
    Rule("held", "close_1m > 1", "info", cooldown_s=0, mode="live", hold_s=60),
)
_ODD_VALUES: Final = (
    None, True, False, 0, -1, 1, 0.1,
    -0.0, 1e308, -1e308, 5e-324, 2**31, 2**53, -(2**53), 2**63 - 1, -(2**63), 2**64 - 1,
    "", "0", "1", "-1", "NaN", "Infinity", "1e400", "9" * 400, "\u0660", "0x10", "BTCUSDT", "a b", "A.B",
    "\u202eA", "\x00",
    "\U0001f680", "\u0301", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2023-11-14T22:14:00+23:59", "now",
    [], {}, [[]], [None], {"a": {}}, -9_000_000_000_000_000, 253_402_300_800_000, 1_262_303_999_999, 4_102_444_800_000,
)  # fmt: skip
_ODD_TIMES: Final = (
    -(2**63), -(2**53), -9_000_000_000_000_000, -1, 0, 1, 59_999, 1_262_304_000_000, NOW_MS - 86_400_000,
    NOW_MS - 60_000,
    NOW_MS, NOW_MS + 60_000, NOW_MS + 3_600_000, 4_102_444_740_000, 2**53, 2**63 - 1,
)  # fmt: skip
_MINUTES_AGO: Final = (0, 1, 2, 5, 1_500, 100_000, 5_000_000)
_MINUTES_AGO_WEIGHTS: Final = (8, 8, 8, 8, 1, 1, 1)
"""Old candles are rare: a late candle costs a hundred times as much as a present one."""
_SPOILT_COLUMNS: Final = (
    "open_time_ms", "event_ts_ms", "ingest_ts_ms", "open", "high", "close", "volume", "quote_volume", "trades",
)  # fmt: skip
_ODD_SYMBOLS: Final = ("", "a", "A B", "BTCUSDT", "\x00", "A" * 40, "\u202e", "A.B", "\U0001f680")
_ODD_NUMBERS: Final = (0.0, -0.0, -1.0, 1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e-320)


class Entry:
    """The roles' steps and their state. `counts`: (target, whether the input was used) -> number of inputs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # repeats, guards nothing
        self._book = RuleBook.compile(_RULES, "live")
        self._targets: dict[str, Callable[[], bool]] = {
            "message": self._message,
            "candles": self._candles,
            "bars": self._bars,
            "metrics": self._metrics,
            "alert": self._alert,
            "gaps": self._gaps,
            "stored": self._stored,
        }
        self.counts: Counter[tuple[str, bool]] = Counter()
        self.slowest: tuple[float, str] = (0.0, "")
        self._forget()

    def _forget(self) -> None:
        self._known = KnownMinutes()
        self._open_gaps = OpenGaps()
        self._matrix = MarketMatrix(columns=_COLUMNS)
        self._evaluator = Evaluator(self._book)
        self._latest = LatestMetrics()
        self._encoded = EncodedMetrics(self._latest)
        self._candle_values = CandleValues(self._latest)

    def run(self, inputs: int) -> None:
        """Try this many inputs. Raises the exception that would have ended a role."""
        for number in range(inputs):
            if number % _FORGET_EVERY == 0:
                self._forget()
            target = self._random.choice(tuple(self._targets))
            began_s = time.perf_counter()
            try:
                used = self._targets[target]()
            except BadInput:
                used = False
            self.slowest = max(self.slowest, (time.perf_counter() - began_s, target))
            self.counts[target, used] += 1

    def _message(self) -> bool:
        messages = [self._spoiled_message() for _ in range(self._random.randint(1, 4))]
        parsed = parse(messages, ingest_ts_ms=NOW_MS, max_bytes=_MAX_BYTES, exchange="binance", live={0})
        refused = [one.index for one in parsed.rejected]
        assert len(set(refused)) == len(refused), "more than one refusal of a message"
        for one in parsed.rejected:
            assert one.count > 0
            assert len(one.message) < 5_000
            orjson.dumps({"message": one.message, "reason": one.reason})
        if parsed.batch is None:
            return False
        assert check(parsed.batch, NOW_MS) == []
        encode_candles(parsed.batch)
        return True

    def _candles(self) -> bool:
        batch, _ = decode_candles(self._spoiled(encode_candles(self._odd_candles(), self._info())))
        self._hold_to_bounds(batch)
        return self._take(batch)

    def _take(self, batch: CandleBatch) -> bool:
        """Process the rows of a frame as collector, calculator and alerts do."""
        good = np.ones(len(batch), np.bool_)
        for mask, _ in check(batch, NOW_MS):
            good &= ~mask
        batch = batch.take(good).compact()
        if not len(batch):
            return False
        accepted = self._known.accept(batch)
        self._open_gaps.fill(accepted.batch)
        self._open_gaps.note(accepted.gaps)
        for open_time_ms in accepted.closed_minutes_ms.tolist():
            self._known.load_minute(open_time_ms, self._known.pack_minute(open_time_ms))
        if len(accepted.batch):
            metrics = self._matrix.update(accepted.batch)
            self._evaluate(encode_metrics(metrics))
        return True

    def _evaluate(self, frame: bytes) -> None:
        """Process a frame of metrics as alerts, sinks and sidecar do."""
        batch, _ = decode_metrics(frame)
        self._hold_to_bounds(batch)
        if not len(batch):
            return
        matches = self._evaluator.evaluate(batch)
        assert self._evaluator.faults == ()
        if len(matches):
            decided = decide(matches, batch, self._evaluator.book, {})
            for alert in build_alerts(decided.fires, batch, evaluate_ts_ms=NOW_MS):
                LoggedAlert.of(decoded_alert(alert.encode(), 1).content)
        self._evaluator.restore(self._evaluator.snapshot())
        for time_ms in metric_rows(batch).time_ms.tolist():
            rfc3339(time_ms)
        self._latest.take(batch)
        list(self._candle_values.changed(batch))
        for seen in self._latest.seen():
            rfc3339(seen.event_ts_ms)
        for symbol in self._latest.symbols():
            assert self._encoded.of(symbol) is not None

    def _bars(self) -> bool:
        timeframe = self._random.choice(("5m", "1h", "1d", "1m", "", "\u9f99"))
        record = self._spoiled(encode_bars(timeframe, self._odd_candles()))
        if not is_bars(record):
            return False
        timeframe, bars, _ = decode_bars(record)
        self._hold_to_bounds(bars)
        self._matrix.warm_up_bars(timeframe, bars)
        return True

    def _metrics(self) -> bool:
        frame = self._spoiled(encode_metrics(self._odd_metrics(), self._info()))
        self._evaluate(frame)
        return True

    def _alert(self) -> bool:
        alert = {
            "id": "6f1d3c1e-7a55-5d0c-9b3e-2f8f4c9d7a10", "symbol": "BTCUSDT", "rule_type": "risen", "rule_version": 1,
            "severity": "high", "description": "d", "timestamp": "2023-11-14T22:14:00.000Z", "price": 1.5,
            "metadata": {"rsi": None, "vcp": 0.1}, "timings": {"ingest_ts_ms": NOW_MS, "publish_ts_ms": NOW_MS},
        }  # fmt: skip
        stored = decoded_alert(self._spoiled(self._spoiled_json(alert)), 7).content
        LoggedAlert.of(stored.delivered(NOW_MS))
        assert is_symbol(stored.symbol)
        return True

    def _gaps(self) -> bool:
        reported = orjson.loads(
            encode_gaps([Gap("BTCUSDT", NOW_MS - 600_000, NOW_MS), Gap("ETHUSDT", NOW_MS, NOW_MS)])
        )
        gaps, _ = decode_gaps(self._spoiled(self._spoiled_json(reported)))
        self._open_gaps.note(gaps)
        for gap in gaps:
            assert is_symbol(gap.symbol)
            assert is_time(gap.first_ms)
            assert is_time(gap.last_ms)
        return bool(gaps)

    def _stored(self) -> bool:
        """Decode damaged stored state, also as a barrier."""
        matrix = MarketMatrix(columns=_COLUMNS)
        minute_ms = NOW_MS - NOW_MS % MINUTE_MS - MINUTE_MS
        matrix.update(self._good_candles(minute_ms))
        packed = self._spoiled(matrix.pack_minute(minute_ms))
        Barrier.decode(packed)
        unpack_minute(packed)
        return True

    def _hold_to_bounds(self, rows: Any) -> None:
        assert all(is_symbol(rows.symbol_of(row)) for row in range(len(rows)))
        for row in range(len(rows)):
            assert is_time(int(rows.open_time_ms[row]))
            assert is_time(int(rows.event_ts_ms[row]))

    def _info(self) -> FrameInfo:
        return FrameInfo({"bridge": self._random.choice((NOW_MS, *_ODD_TIMES))}, "0" * 32)

    def _good_candles(self, minute_ms: int, rows: int = 3) -> CandleBatch:
        choose = self._random
        price = np.array([choose.uniform(0.5, 2.0) for _ in range(rows)])
        open_time_ms = np.full(rows, minute_ms, np.int64)
        return CandleBatch(
            symbols=_SYMBOLS,
            symbol_index=np.array([row % len(_SYMBOLS) for row in range(rows)], np.int32),
            open_time_ms=open_time_ms, open=price, high=price * 1.1, low=price * 0.9, close=price,
            volume=np.ones(rows), quote_volume=price, trades=np.ones(rows, np.int64),
            taker_buy_volume=np.full(rows, np.nan), taker_buy_quote_volume=np.full(rows, np.nan),
            quote_estimated=np.zeros(rows, np.bool_),
            closed=np.array([choose.random() < 0.7 for _ in range(rows)]),
            event_ts_ms=open_time_ms + MINUTE_MS, ingest_ts_ms=open_time_ms + MINUTE_MS,
        )  # fmt: skip

    def _odd_candles(self) -> CandleBatch:
        """Return candles with some values that are invalid, or at the edge of the valid range."""
        choose = self._random
        (ago,) = choose.choices(_MINUTES_AGO, _MINUTES_AGO_WEIGHTS)
        minute_ms = NOW_MS - NOW_MS % MINUTE_MS - MINUTE_MS * ago
        batch = self._good_candles(minute_ms, choose.randint(0, 6))
        changed: dict[str, Any] = {}
        for name in (
            "open_time_ms",
            "event_ts_ms",
            "ingest_ts_ms",
            "open",
            "high",
            "close",
            "volume",
            "quote_volume",
            "trades",
        ):
            if len(batch) and choose.random() < 0.15:
                column = getattr(batch, name).copy()
                whole = column.dtype == np.int64
                column[choose.randrange(len(batch))] = choose.choice(_ODD_TIMES if whole else _ODD_NUMBERS)
                changed[name] = column
        if choose.random() < 0.2:
            symbols = list(_SYMBOLS)
            symbols[choose.randrange(3)] = choose.choice(_ODD_SYMBOLS)
            changed["symbols"] = tuple(symbols)
        return replace(batch, **changed)

    def _odd_metrics(self) -> Any:
        matrix = MarketMatrix(columns=_COLUMNS)
        minute_ms = NOW_MS - NOW_MS % MINUTE_MS - MINUTE_MS
        metrics = matrix.update(self._good_candles(minute_ms, self._random.randint(1, 5)))
        values = metrics.values.copy()
        for _ in range(self._random.randint(0, 6)):
            if values.size:
                values.flat[self._random.randrange(values.size)] = self._random.choice(_ODD_NUMBERS)
        times = {
            name: np.where(
                np.array([self._random.random() < 0.2 for _ in range(len(metrics))], np.bool_),
                self._random.choice(_ODD_TIMES),
                getattr(metrics, name),
            ).astype(np.int64)
            for name in ("open_time_ms", "event_ts_ms", "ingest_ts_ms")
        }
        columns = self._random.choice((_COLUMNS, ("a", "b", "c", "d"), ("close_1m",) * 4))
        return replace(metrics, values=values, columns=columns, **times)

    def _spoiled_message(self) -> bytes:
        candle = {
            "symbol": self._random.choice(_SYMBOLS), "open_time": NOW_MS - NOW_MS % MINUTE_MS - MINUTE_MS, "open": 10.0,
            "high": 12.0, "low": 9.0, "close": 11.0, "volume": 3.0, "quote_volume": 31.5, "number_of_trades": 7,
            "event_time": NOW_MS, "closed": True,
        }  # fmt: skip
        if self._random.random() < 0.3:
            many = [candle | {"open": 10.0 + n % 2} for n in range(self._random.choice((0, 1, 3, 20)))]
            return self._spoiled(self._spoiled_json(many))
        return self._spoiled(self._spoiled_json(candle))

    def _spoiled_json(self, value: Any) -> bytes:
        for _ in range(self._random.choice((0, 1, 1, 2, 5))):
            value = self._changed_somewhere(value)
        return orjson.dumps(value)

    def _changed_somewhere(self, value: Any) -> Any:
        if isinstance(value, dict) and value and self._random.random() < 0.9:
            name = self._random.choice(list(value))
            if self._random.random() < 0.15:
                return {key: one for key, one in value.items() if key != name}
            return value | {name: self._changed_somewhere(value[name])}
        if isinstance(value, list) and value and self._random.random() < 0.9:
            at = self._random.randrange(len(value))
            return [*value[:at], self._changed_somewhere(value[at]), *value[at + 1 :]]
        return self._random.choice(_ODD_VALUES)

    def _spoiled(self, data: bytes) -> bytes:
        """Return the data, half of the time unchanged, else with bytes changed, cut, doubled or inserted."""
        if self._random.random() < 0.5 or not data:
            return data
        spoiled = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 8))):
            if not spoiled:
                break
            at = self._random.randrange(len(spoiled))
            match self._random.randrange(5):
                case 0:
                    spoiled[at] ^= 1 << self._random.randrange(8)
                case 1:
                    spoiled[at] = self._random.choice((0, 0x7F, 0x80, 0xFF))
                case 2:
                    del spoiled[at:]
                case 3:
                    spoiled[at:at] = spoiled[at : at + self._random.randrange(64)]
                case _:
                    spoiled[at:at] = self._random.randbytes(self._random.randrange(8))
        return bytes(spoiled)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=int(os.environ.get("FUZZ_INPUTS", "100000")))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    entry, began_s = Entry(given.seed), time.perf_counter()
    for part in range(10):
        entry.run(given.inputs // 10)
        print(
            f"{(part + 1) * 10} %: {time.perf_counter() - began_s:,.0f} s, peak {_peak_mb():,.0f} MB",
            flush=True,
        )
    for (target, used), count in sorted(entry.counts.items()):
        print(f"{target}: {count:,} {'used' if used else 'refused'}")
    print(f"slowest: {entry.slowest[0]:.3f} s, {entry.slowest[1]}")


if __name__ == "__main__":
    main()
