"""Trying and explaining rules on the minutes that the database keeps."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import psycopg
import pytest
from click.testing import CliRunner

from app.candles.batch import concatenate
from app.cli.commands.candles import backtest, explain, screen_command
from app.cli.commands.rules import rules_group
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.errors import RuleError
from app.settings import Settings
from app.sinks.copy import write_candles
from tests.support.candle_history import candles

CLOSES = [100.0 + (minute % 5) ** 2 for minute in range(240)]
RULES = """
rules:
  - {rule_type: rising, expression: price_change_1m > 5, severity: high, cooldown_s: 0}
"""


@pytest.fixture
def history(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path) -> str:
    """A database with two symbols' minutes in the environment's settings; gives the path of a rule file."""
    migrate(settings.postgres())

    async def write() -> None:
        async with await psycopg.AsyncConnection.connect(
            connection_url(settings.postgres()), autocommit=True
        ) as connection:
            batch = concatenate([candles(CLOSES, "AUSDT"), candles(CLOSES[::-1], "BUSDT")])
            await write_candles(connection, batch)

    asyncio.run(write())
    monkeypatch.setenv("SCREENER_POSTGRES_URL", settings.server_urls().postgres)
    monkeypatch.setenv("SCREENER_NAMESPACE", settings.namespace)
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    return str(rules)


def test_a_backtest_plays_the_stored_minutes_of_the_given_time(history: str) -> None:
    def played(*more: str) -> dict:
        span = (
            "--from",
            "2021-04-17T01:00:00Z",
            "--to",
            "2021-04-17T03:00:00Z",
            "--rules",
            history,
            "--json",
        )
        result = CliRunner().invoke(backtest, [*span, *more], catch_exceptions=False)
        return json.loads(result.stdout)

    both, one = played(), played("--symbols", "AUSDT")
    assert (both["candles"], both["symbols"]) == (240, 2)
    assert (one["candles"], one["symbols"]) == (120, 1)
    assert one["from"] == "2021-04-17T01:00:00.000Z"
    rises = sum(later / earlier > 1.05 for earlier, later in pairwise(CLOSES[60:180]))
    assert one["alerts"] == rises > 0


def test_a_stored_minute_is_explained(history: str) -> None:
    arguments = ["rising", "BUSDT", "--at", "2021-04-17T03:30:00Z", "--rules", history]
    result = CliRunner().invoke(explain, arguments, catch_exceptions=False)
    assert "price_change_1m > 5" in result.stdout
    assert "margin" in result.stdout


def test_the_newest_stored_minute_is_explained_by_the_rules_of_the_database(history: str) -> None:
    told = CliRunner().invoke(explain, ["rising", "BUSDT"])
    assert isinstance(told.exception, RuleError)
    applied = CliRunner().invoke(rules_group, ["apply", history], catch_exceptions=False)
    assert "added: rising" in applied.stdout
    told = CliRunner().invoke(explain, ["rising", "BUSDT"], catch_exceptions=False)
    assert "the minute of 2021-04-17T03:59:00.000Z" in told.stdout
    unknown = CliRunner().invoke(explain, ["rising", "XUSDT"])
    assert unknown.exit_code == 1
    assert "no candles of XUSDT" in unknown.stderr


def test_a_backtest_of_the_stored_minutes_takes_the_rules_of_the_database(history: str) -> None:
    CliRunner().invoke(rules_group, ["apply", history, "--prune"], catch_exceptions=False)
    span = ["--from", "2021-04-17T01:00:00Z", "--to", "2021-04-17T03:00:00Z", "--json"]
    played = json.loads(CliRunner().invoke(backtest, span, catch_exceptions=False).stdout)
    assert list(played["rules"]) == ["rising"] or [rule["rule_type"] for rule in played["rules"]] == [
        "rising"
    ]
    assert played["alerts"] > 0


def test_a_stored_minute_is_screened(history: str) -> None:
    asked = ["price_change_1m > 5", "--at", "2021-04-17T03:30:00Z", "--json"]
    answer = json.loads(CliRunner().invoke(screen_command, asked, catch_exceptions=False).stdout)
    rises = {"AUSDT": CLOSES[210] / CLOSES[209], "BUSDT": CLOSES[::-1][210] / CLOSES[::-1][209]}
    assert [found["symbol"] for found in answer["symbols"]] == [s for s, rise in rises.items() if rise > 1.05]
    assert answer["evaluated"] == 2
