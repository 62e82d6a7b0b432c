"""Three streaming dataframes in one application: `python -m benchmarks.plain_quix.app`.

PLAIN_KAFKA_URL names the broker, PLAIN_STATE_DIR the folder of the state.
"""

from __future__ import annotations

import os
from typing import Any

from quixstreams import Application, State
from quixstreams.kafka import ConnectionConfig

from benchmarks.plain_faust.rules import matching_rules
from benchmarks.plain_faust.validity import is_valid
from benchmarks.plain_faust.windows import SymbolWindows

COOLDOWN_MS = 300_000
END = "END"
"""Symbols with this prefix mark the end of a measurement: their metrics are passed on as an alert."""
Document = dict[str, Any]

windows: dict[str, SymbolWindows] = {}


def is_good(candle: Document) -> bool:
    return is_valid(
        candle["open_time"],
        (candle["open"], candle["high"], candle["low"], candle["close"]),
        (candle["volume"], candle["quote_volume"], candle["number_of_trades"]),
    )


def is_new(candle: Document, state: State) -> bool:
    """Return whether the candle was not seen before; each symbol (the record's key) has its own state."""
    minute = f"seen-{candle['open_time']}"
    values = [candle[name] for name in ("open", "high", "low", "close", "volume", "quote_volume")]
    if state.get(minute) == values:
        return False
    state.set(minute, values)
    return True


def calculate(candle: Document, state: State) -> Document | None:
    symbol = windows.get(candle["symbol"])
    if symbol is None:
        symbol = windows[candle["symbol"]] = SymbolWindows()
    if not symbol.add(candle["open_time"], candle["close"], candle["quote_volume"]):
        return None
    state.set(f"minute-{candle['open_time']}", [candle["close"], candle["quote_volume"]])
    return {
        "symbol": candle["symbol"],
        "open_time": candle["open_time"],
        "close": candle["close"],
        "price_change": {name: window.price_change() for name, window in symbol.windows.items()},
        "volume": {name: window.volume() for name, window in symbol.windows.items()},
        "volume_ratio": {name: window.volume_ratio() for name, window in symbol.windows.items()},
    }


def evaluate(metrics: Document, state: State) -> list[Document]:
    open_time = metrics["open_time"]
    fired = [
        rule_type
        for rule_type in matching_rules(metrics["price_change"], metrics["volume"])
        if open_time - state.get(rule_type, 0) >= COOLDOWN_MS
    ]
    for rule_type in fired:
        state.set(rule_type, open_time)
    if metrics["symbol"].startswith(END):
        fired.append(END)
    return [
        {"symbol": metrics["symbol"], "rule_type": rule, "open_time": open_time, "price": metrics["close"]}
        for rule in fired
    ]


def _connection(url: str) -> ConnectionConfig:
    """Return the connection for a URL of the form user:password@host:port."""
    credentials, _, servers = url.rpartition("@")
    user, _, password = credentials.partition(":")
    return ConnectionConfig(
        bootstrap_servers=servers,
        security_protocol="sasl_plaintext",
        sasl_mechanism="PLAIN",
        sasl_username=user,
        sasl_password=password,
    )


def main() -> None:
    app = Application(
        broker_address=_connection(os.environ["PLAIN_KAFKA_URL"]),
        consumer_group="plain-quix",
        auto_offset_reset="earliest",
        state_dir=os.environ["PLAIN_STATE_DIR"],
        consumer_extra_config={"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000},
        producer_extra_config={"linger.ms": 10},
        commit_interval=1.0,
    )
    ingress, candles, metrics, alerts = (
        app.topic(f"plain-{name}", value_deserializer="json", value_serializer="json")
        for name in ("ingress", "candles", "metrics", "alerts")
    )
    app.dataframe(ingress).filter(is_good).filter(is_new, stateful=True).to_topic(candles)
    calculated = app.dataframe(candles).apply(calculate, stateful=True)
    calculated.filter(lambda result: result is not None).to_topic(metrics)
    app.dataframe(metrics).apply(evaluate, stateful=True, expand=True).to_topic(alerts)
    app.run()


if __name__ == "__main__":
    main()
