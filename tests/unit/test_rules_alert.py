"""Alerts, their ids, and which matches become one."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID, uuid5

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.alert import ALERT_NAMESPACE, Alert, alert_id
from app.rules.alert_builder import build_alert, build_alerts
from app.rules.cooldown import decide
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from app.times import rfc3339
from tests.support.metric_rows import START_MS, Row, metrics_batch

RISING = Rule("rising", "price_change_5m > 1", "high", description="It rises", version=3)
UP = {"price_change_5m": 2.0, "close_1m": 10.5, "vcp_5m": 0.25, "rsi_14_5m": 71.0, "quote_volume_1h": 5e6}


def fires(batch, rule=RISING, mode="close", last_fired=None):
    book = RuleBook.compile([rule], mode)
    return decide(Evaluator(book).evaluate(batch), batch, book, last_fired or {}).fires


def test_an_id_is_the_same_for_ever():
    assert alert_id("rising", 1, "BTCUSDT", START_MS) == "84ffc41b-88c3-5491-b094-a9c27538de88"
    assert UUID(alert_id("rising", 1, "BTCUSDT", START_MS)).version == 5


def test_an_id_differs_by_rule_version_symbol_and_minute():
    ids = {
        alert_id(rule_type, version, symbol, minute)
        for rule_type in ("a", "b")
        for version in (1, 11)
        for symbol in ("X", "1X")
        for minute in (0, 60_000)
    }
    assert len(ids) == 16


def test_an_alert_has_every_field_of_the_specification():
    batch = metrics_batch([Row("A", 0, {}), Row("B", 0, UP)])
    [fire] = fires(batch)
    alert = build_alert(fire, batch, evaluate_ts_ms=START_MS + 60_050).as_dict()
    metadata, timings = alert.pop("metadata"), alert.pop("timings")
    assert alert == {
        "id": alert_id("rising", 3, "B", START_MS),
        "symbol": "B",
        "rule_type": "rising",
        "rule_version": 3,
        "severity": "high",
        "description": "It rises",
        "timestamp": "2021-04-17T00:01:00.000Z",
        "price": 10.5,
    }
    assert timings == {
        "exchange_ts_ms": START_MS + 60_000,
        "ingest_ts_ms": START_MS + 60_007,
        "evaluate_ts_ms": START_MS + 60_050,
    }
    changes = {f"price_change_{timeframe}" for timeframe in ("5m", "15m", "1h", "8h", "1d")}
    volumes = {f"volume_{timeframe}" for timeframe in ("5m", "15m", "1h", "8h", "1d")}
    ratios = {f"volume_ratio_{timeframe}" for timeframe in ("5m", "15m", "1h", "8h")}
    assert metadata.pop("seen") == {
        "minute": "2021-04-17T00:00:00.000Z",
        "expression": "price_change_5m > 1",
        "values": {"price_change_5m": 2.0},
    }
    assert set(metadata) == {"vcp", "rsi"} | changes | volumes | ratios
    known = {name: value for name, value in metadata.items() if value is not None}
    assert known == {"price_change_5m": 2.0, "vcp": 0.25, "rsi": 71.0, "volume_1h": 5e6}
    assert json.loads(json.dumps(alert, allow_nan=False)) == alert


def test_the_alerts_of_a_shadow_rule_are_marked_to_the_end_and_no_others():
    batch = metrics_batch([Row("B", 0, UP)])
    for shadow in (True, False):
        [fire] = fires(batch, replace(RISING, shadow=shadow))
        data = build_alert(fire, batch, START_MS + 60_050).published(START_MS + 60_053, backfilled=False)
        record = Alert.decode(data, 7).delivered(START_MS + 60_060).as_dict()
        assert record.get("shadow") is (True if shadow else None)


def test_a_live_alert_carries_its_event_time_even_when_the_exchange_is_late():
    batch = metrics_batch([Row("A", 0, UP, event_ts_ms=START_MS + 60_042)])
    [live], [close] = fires(batch, mode="live"), fires(batch, mode="close")
    assert build_alert(live, batch, 0).timestamp == "2021-04-17T00:01:00.042Z"
    assert build_alert(close, batch, 0).timestamp == "2021-04-17T00:01:00.000Z"
    assert build_alert(live, batch, 0).id == build_alert(close, batch, 0).id


def test_times_are_written_in_utc_with_milliseconds():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(START_MS + 5) == "2021-04-17T00:00:00.005Z"


def test_the_values_of_an_alert_are_found_by_name_whatever_the_order_of_columns():
    batch = metrics_batch([Row("A", 0, {"price_change_5m": 2.0})], ("quote_volume_5m", "price_change_5m"))
    [fire] = fires(batch)
    alert = build_alert(fire, batch, 0)
    assert alert.price is None
    assert alert.metadata["price_change_5m"] == 2.0
    assert alert.metadata["volume_5m"] is None


def test_a_rule_fires_again_exactly_when_its_cooldown_has_passed():
    batch = metrics_batch([Row("A", minute, UP) for minute in range(12)])
    assert [fire.open_time_ms - START_MS for fire in fires(batch)] == [0, 300_000, 600_000]
    assert fires(batch, last_fired={("rising", "A"): START_MS + 7 * 60_000}) == []
    known = {("rising", "A"): START_MS - 240_000, ("rising", "B"): START_MS + 10**9}
    assert [fire.open_time_ms - START_MS for fire in fires(batch, last_fired=known)] == [
        60_000,
        360_000,
        660_000,
    ]


def test_without_a_cooldown_a_rule_fires_once_a_minute():
    rule = Rule("rising", "price_change_5m > 1", "high", cooldown_s=0)
    rows = [Row("A", 0, UP, closed=False, event_ts_ms=START_MS), Row("A", 0, UP, closed=False)]
    rows += [Row("A", 0, UP, event_ts_ms=START_MS + 60_030)]
    rows += [Row("A", 1, UP, closed=False, event_ts_ms=START_MS + 60_040), Row("A", 1, UP)]
    assert [fire.row for fire in fires(metrics_batch(rows), rule, "live")] == [0, 3]


def test_minutes_out_of_order_in_one_frame_are_decided_in_order_of_time():
    batch = metrics_batch([Row("A", 6, UP), Row("B", 3, UP), Row("A", 0, UP)])
    assert [(fire.symbol, fire.row) for fire in fires(batch)] == [("A", 2), ("B", 1), ("A", 0)]


def test_a_correction_of_an_old_minute_does_not_fire_again_after_the_cooldown():
    late = Row("A", 0, UP, event_ts_ms=START_MS + 3_600_000)
    assert fires(metrics_batch([late]), mode="live", last_fired={("rising", "A"): START_MS + 30_000}) == []


def test_each_symbol_and_each_rule_has_a_cooldown_of_its_own():
    batch = metrics_batch([Row("A", 0, UP), Row("B", 1, UP)])
    other = Rule("other", "price > 1", "info", cooldown_s=900)
    book = RuleBook.compile([RISING, other], "close")
    decided = decide(Evaluator(book).evaluate(batch), batch, book, {("rising", "A"): START_MS - 1})
    assert [(fire.rule.rule_type, fire.symbol) for fire in decided.fires] == [
        ("other", "A"),
        ("rising", "B"),
        ("other", "B"),
    ]
    assert decided.last_fired == {
        ("other", "A"): START_MS,
        ("rising", "B"): START_MS + 60_000,
        ("other", "B"): START_MS + 60_000,
    }


@given(
    rule_type=st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
    version=st.integers(1, 2**31 - 1),
    symbol=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
    open_time_ms=st.integers(0, 2**41),
)
def test_an_id_is_the_uuid5_of_the_standard_library(rule_type, version, symbol, open_time_ms):
    name = f"{rule_type}|{version}|{symbol}|{open_time_ms}"
    assert alert_id(rule_type, version, symbol, open_time_ms) == str(uuid5(ALERT_NAMESPACE, name))


RECORDED = (
    (
        '{"id":"d4e68375-f9a2-5d47-91e3-b44037c72435","symbol":"1000PEPEUSDT","rule_type":"rising","rule_'
        'version":3,"severity":"high","description":"Es steigt – \\"schnell\\" ↑","timestamp":"2021-04-17T0'
        '0:01:00.000Z","price":10.0,"metadata":{"vcp":0.25,"rsi":71.0,"price_change_5m":2.0,"price_change'
        '_15m":null,"price_change_1h":null,"price_change_8h":null,"price_change_1d":null,"volume_5m":null'
        ',"volume_15m":null,"volume_1h":5000000.0,"volume_8h":null,"volume_1d":null,"volume_ratio_5m":nul'
        'l,"volume_ratio_15m":null,"volume_ratio_1h":null,"volume_ratio_8h":null,"seen":{"minute":"2021-0'
        '4-17T00:00:00.000Z","expression":"price_change_5m > 1","values":{"price_change_5m":2.0}}},"timin'
        'gs":{"exchange_ts_ms":1618617660000,"ingest_ts_ms":1618617660007,"evaluate_ts_ms":1618617660050,'
        '"publish_ts_ms":1618617660053},"backfilled":false}'
    ).encode(),
    (
        '{"id":"59c5c6f4-30b3-5322-91e1-d0045de84df7","symbol":"1000PEPEUSDT","rule_type":"rising","rule_'
        'version":3,"severity":"high","description":"Es steigt – \\"schnell\\" ↑","timestamp":"2021-04-17T0'
        '0:07:00.042Z","price":0.000010000000000000003,"metadata":{"vcp":null,"rsi":0.30000000000000004,"'
        'price_change_5m":1.0000001,"price_change_15m":null,"price_change_1h":null,"price_change_8h":null'
        ',"price_change_1d":null,"volume_5m":null,"volume_15m":null,"volume_1h":null,"volume_8h":null,"vo'
        'lume_1d":1.5e+22,"volume_ratio_5m":-0.0,"volume_ratio_15m":null,"volume_ratio_1h":null,"volume_r'
        'atio_8h":null,"seen":{"minute":"2021-04-17T00:06:00.000Z","expression":"price_change_5m > 1","va'
        'lues":{"price_change_5m":1.0000001}}},"timings":{"exchange_ts_ms":1618618020042,"ingest_ts_ms":1'
        '618618020049,"evaluate_ts_ms":1618617660050,"publish_ts_ms":1618617660053},"backfilled":false}'
    ).encode(),
)
"""Records of the topic, made before alerts had a type."""


def recorded_fires(mode):
    rule = replace(RISING, description='Es steigt – "schnell" ↑')
    rows = [
        Row("1000PEPEUSDT", 0, {**UP, "close_1m": 10.0}),
        Row(
            "1000PEPEUSDT",
            6,
            {
                "price_change_5m": 1.0000001,
                "close_1m": 1.0000000000000002e-5,
                "quote_volume_1d": 1.5e22,
                "volume_ratio_5m": -0.0,
                "rsi_14_5m": 0.1 + 0.2,
            },
            event_ts_ms=START_MS + 7 * 60_000 + 42,
        ),
    ]
    batch = metrics_batch(rows)
    return batch, fires(batch, rule, mode)


@pytest.mark.parametrize(("position", "mode"), [(0, "close"), (1, "live")])
def test_the_bytes_of_an_alert_are_those_of_the_recorded_ones(position, mode):
    batch, fired = recorded_fires(mode)
    alert = build_alerts(fired, batch, evaluate_ts_ms=START_MS + 60_050)[position]
    assert alert.published(START_MS + 60_053, backfilled=False) == RECORDED[position]


@pytest.mark.parametrize("record", RECORDED)
def test_a_decoded_alert_is_encoded_to_the_same_bytes(record):
    alert = Alert.decode(record, 7)
    assert alert.encode() == record
    assert alert.seq == 7
    shown = record.replace(b'","symbol"', b'","seq":7,"symbol"', 1)
    assert orjson.dumps(alert.as_dict()) == shown
    sent = shown.replace(b'},"backfilled"', b',"deliver_ts_ms":9},"backfilled"')
    assert orjson.dumps(alert.delivered(9).as_dict()) == sent


def test_what_a_newer_version_adds_to_an_alert_is_passed_on():
    document = orjson.loads(RECORDED[0]) | {"venue": {"name": "x"}}
    document["timings"] |= {"ingest_ts_ms": 1.5, "route_ts_ms": 4}
    alert = Alert.decode(orjson.dumps(document), 7)
    assert alert.timings.ingest_ts_ms is None
    assert orjson.loads(alert.encode()) == document
    assert alert.delivered(9).as_dict() == document | {
        "seq": 7,
        "timings": document["timings"] | {"deliver_ts_ms": 9},
    }
