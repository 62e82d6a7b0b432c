"""Three Faust agents, one message per candle. `faust -A benchmarks.plain_faust.app worker` runs them all.

PLAIN_KAFKA_URL names the broker, PLAIN_STATE_DIR the folder of the state, PLAIN_PARTITIONS the number of partitions.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import timedelta

import faust

from app.wire.kafka import client_options_at
from benchmarks.plain_faust.rules import matching_rules
from benchmarks.plain_faust.validity import is_valid
from benchmarks.plain_faust.windows import SymbolWindows

COOLDOWN_MS = 300_000
END = "END"
"""Symbols with this prefix mark the end of a measurement: their metrics are passed on as an alert."""
partitions = int(os.environ["PLAIN_PARTITIONS"])
_access = client_options_at(os.environ["PLAIN_KAFKA_URL"])

app = faust.App(
    "plain-screener",
    broker=f"kafka://{_access['bootstrap_servers']}",
    broker_credentials=faust.SASLCredentials(
        username=_access["sasl_plain_username"],
        password=_access["sasl_plain_password"],
        mechanism=_access["sasl_mechanism"],
    ),
    store="memory://",
    datadir=os.environ["PLAIN_STATE_DIR"],
    topic_partitions=partitions,
    topic_disable_leader=True,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    # settings that help: a short join on the embedded broker, and fuller batches
    broker_session_timeout=6,
    broker_heartbeat_interval=1,
    broker_max_poll_interval=600,
    stream_buffer_maxsize=16_384,
    producer_linger=0.01,
    producer_max_batch_size=262_144,
    web_enabled=False,
)


class Candle(faust.Record, serializer="json"):
    symbol: str
    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    number_of_trades: int


class Metrics(faust.Record, serializer="json"):
    symbol: str
    open_time: int
    close: float
    price_change: dict[str, float | None]
    volume: dict[str, float | None]
    volume_ratio: dict[str, float | None]


class Alert(faust.Record, serializer="json"):
    symbol: str
    rule_type: str
    open_time: int
    price: float


ingress = app.topic("plain-ingress", key_type=str, value_type=Candle)
candles = app.topic("plain-candles", key_type=str, value_type=Candle)
metrics = app.topic("plain-metrics", key_type=str, value_type=Metrics)
alerts = app.topic("plain-alerts", key_type=str, value_type=Alert)
dead_letters = app.topic("plain-dead-letters", key_type=str)

seen = app.Table("plain-seen", default=list).tumbling(60, expires=timedelta(hours=25))
minutes = app.Table("plain-minutes", default=list).tumbling(60, expires=timedelta(hours=25))
last_fired = app.Table("plain-last-fired", default=int)
windows: dict[str, SymbolWindows] = {}


def is_good(candle: Candle) -> bool:
    return is_valid(
        candle.open_time,
        (candle.open, candle.high, candle.low, candle.close),
        (candle.volume, candle.quote_volume, candle.number_of_trades),
    )


@app.agent(ingress)
async def collector(stream: AsyncIterator[Candle]) -> None:
    """Reject invalid candles, and drop known ones."""
    async for candle in stream:
        if not is_good(candle):
            await dead_letters.send(key=candle.symbol, value=candle.asdict())
            continue
        values = [candle.open, candle.high, candle.low, candle.close, candle.volume, candle.quote_volume]
        if seen[candle.symbol].current() == values:
            continue
        seen[candle.symbol] = values
        await candles.send(key=candle.symbol, value=candle, timestamp=candle.open_time / 1000)


@app.agent(candles)
async def calculator(stream: AsyncIterator[Candle]) -> None:
    """Compute price changes, volume sums and volume ratios of five rolling windows."""
    async for candle in stream:
        symbol = windows.get(candle.symbol)
        if symbol is None:
            symbol = windows[candle.symbol] = SymbolWindows()
        if not symbol.add(candle.open_time, candle.close, candle.quote_volume):
            continue
        minutes[candle.symbol] = [candle.close, candle.quote_volume]
        result = Metrics(
            symbol=candle.symbol,
            open_time=candle.open_time,
            close=candle.close,
            price_change={name: window.price_change() for name, window in symbol.windows.items()},
            volume={name: window.volume() for name, window in symbol.windows.items()},
            volume_ratio={name: window.volume_ratio() for name, window in symbol.windows.items()},
        )
        await metrics.send(key=candle.symbol, value=result, timestamp=candle.open_time / 1000)


@app.agent(metrics)
async def alert_engine(stream: AsyncIterator[Metrics]) -> None:
    """Evaluate the ten rules, with a cooldown per symbol and rule."""
    async for values in stream:
        fired = [
            rule_type
            for rule_type in matching_rules(values.price_change, values.volume)
            if values.open_time - last_fired[f"{values.symbol}:{rule_type}"] >= COOLDOWN_MS
        ]
        if values.symbol.startswith(END):
            fired.append(END)
        for rule_type in fired:
            last_fired[f"{values.symbol}:{rule_type}"] = values.open_time
            alert = Alert(
                symbol=values.symbol, rule_type=rule_type, open_time=values.open_time, price=values.close
            )
            await alerts.send(key=values.symbol, value=alert)
