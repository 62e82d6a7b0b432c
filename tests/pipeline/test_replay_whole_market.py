"""The command `screener replay` on three real days of 91 symbols, against the oracle and a backtest.

On the embedded servers with all eighteen rules switched on, on Apache Kafka with those that are by default.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.backtest.backtest import Backtest
from app.candle_files.reader import by_minutes, read_candles
from app.local.servers.embedded import EmbeddedStack
from app.market.timeframes import TIMEFRAMES
from app.rules.alert import Alert as FiredAlert
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import dump_rules, shipped_rules
from app.settings import Settings
from tests.oracle.alerts import Alert, close_mode_alerts, close_mode_ichimoku_alerts
from tests.support.apache_kafka import ApacheKafka
from tests.support.market_data import ALTCOINS_2021, market_data_dir
from tests.support.replays import Commanded, Stored, alert_keys, replay_command, stored
from tests.support.servers import settings_for

pytestmark = pytest.mark.slow

CANDLES = 393_120
SYMBOLS = 91
MINUTES = CANDLES // SYMBOLS


ALL_RULES = [replace(rule, enabled=True) for rule in shipped_rules()]


@dataclass(frozen=True)
class Played:
    settings: Settings
    commanded: Commanded


@pytest.fixture(scope="module")
def market() -> Path:
    return market_data_dir() / ALTCOINS_2021


@pytest.fixture(scope="module")
def expected(market: Path) -> set[Alert]:
    alerts = close_mode_alerts(market) | close_mode_ichimoku_alerts(market)
    assert len(alerts) > 9000
    return alerts


@pytest.fixture(scope="module")
def embedded(
    stack: EmbeddedStack, market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Played]:
    settings, directory = settings_for(stack.urls), tmp_path_factory.mktemp("embedded")
    rules = directory / "rules.yaml"
    rules.write_text(dump_rules(ALL_RULES))
    yield Played(settings, replay_command(settings, market, directory, "--rules", str(rules)))
    assert stack.faults() == ()


@pytest.fixture(scope="module")
def apache(
    stack: EmbeddedStack, apache_kafka: ApacheKafka, market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Played:
    settings = settings_for(stack.urls | {"kafka": apache_kafka.url})
    return Played(settings, replay_command(settings, market, tmp_path_factory.mktemp("apache")))


async def in_database(played: Played) -> Stored:
    return await stored(played.settings)


def test_its_alerts_are_those_of_the_brute_force_computation(embedded: Played, expected: set[Alert]) -> None:
    assert set(alert_keys(embedded.commanded.alerts)) == expected


def test_a_backtest_of_the_file_gives_the_identical_alerts_of_all_eighteen_rules(
    embedded: Played, market: Path
) -> None:
    alerts: list[FiredAlert] = []
    backtest = Backtest(RuleBook.compile(ALL_RULES, "close"), on_alert=alerts.append)
    for batch in by_minutes(read_candles(market), 20_000):
        backtest.feed(batch)
    found = {alert.id: alert for alert in alerts}
    replayed = {alert.id: alert for alert in embedded.commanded.alerts}
    assert found.keys() == replayed.keys()
    assert len(found) == len(alerts) == len(embedded.commanded.alerts)
    assert {alert.rule_type for alert in alerts} == {rule.rule_type for rule in ALL_RULES}
    for name in ("symbol", "rule_type", "rule_version", "severity", "description", "timestamp", "price"):
        assert [getattr(found[key], name) for key in found] == [getattr(replayed[key], name) for key in found]
    np.testing.assert_allclose(metadata(found, found), metadata(replayed, found), rtol=1e-9)
    for key in found:
        mine, theirs = (played[key].metadata["seen"] for played in (found, replayed))
        assert {name: mine[name] for name in ("minute", "expression")} == {
            name: theirs[name] for name in ("minute", "expression")
        }
        assert mine["values"].keys() == theirs["values"].keys()
        np.testing.assert_allclose(values_of(mine), values_of(theirs), rtol=1e-9)


def metadata(alerts: dict[str, FiredAlert], order: Iterable[str]) -> np.ndarray:
    """A row for each alert; NaN for null. Without what its rule saw, which differs by rule."""
    rows = [[value for name, value in alerts[key].metadata.items() if name != "seen"] for key in order]
    return np.array(rows, np.float64)


def values_of(seen: Mapping[str, Any]) -> np.ndarray:
    return np.array(list(seen["values"].values()), np.float64)


async def test_the_database_holds_the_same_alerts_each_once(embedded: Played, expected: set[Alert]) -> None:
    in_table = (await in_database(embedded)).alerts
    assert Counter(key for _, key in in_table) == Counter(expected)
    assert {key: identifier for identifier, key in in_table} == embedded.commanded.ids


async def test_the_database_holds_every_candle_of_the_years_old_file(embedded: Played) -> None:
    assert (await in_database(embedded)).candles == CANDLES


async def test_the_database_holds_the_metrics_of_every_whole_bar(embedded: Played) -> None:
    expected_rows = {name: SYMBOLS * (MINUTES // minutes) for name, minutes in TIMEFRAMES.items()}
    assert (await in_database(embedded)).metrics_by_timeframe == expected_rows


def test_it_prints_candles_rate_alerts_by_rule_and_latency_by_stage(
    embedded: Played, expected: set[Alert]
) -> None:
    report = embedded.commanded.report
    assert re.search(r"393,120 candles in [\d.]+ s: [\d,]+ candles/s", report)
    assert "restarts" not in report
    cells = {match[1]: match[2] for match in re.finditer(r"^│ (\S+)\s+│ ([\d,]+)", report, re.MULTILINE)}
    for rule_type, count in Counter(rule_type for rule_type, _, _ in expected).items():
        assert cells[rule_type] == f"{count:,}"
    # at least once: on a machine that stalls for seconds the collector gets some of them again, and drops those
    again = re.search(r"; ([\d,]+) duplicates dropped", report)
    received = CANDLES + (int(again[1].replace(",", "")) if again else 0)
    assert cells["collector"] == f"{received:,}"
    for stage in ("calculator", "alerts", "sinks-candles"):
        assert cells[stage] == "393,120"


@pytest.mark.kafka
def test_on_apache_kafka_its_alerts_have_the_same_ids(apache: Played, embedded: Played) -> None:
    assert apache.commanded.ids == embedded.commanded.ids


@pytest.mark.kafka
async def test_on_apache_kafka_the_database_holds_the_same_alerts_each_once(
    apache: Played, expected: set[Alert]
) -> None:
    found = await in_database(apache)
    assert Counter(found.alert_keys) == Counter(expected)
    assert found.candles == CANDLES
