"""The commands that try, test and explain rules."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
from click.testing import CliRunner, Result

import app.rules.language.functions
from app.cli.commands.candles import backtest, explain
from app.cli.commands.rules import test_rules as rule_tests_command
from app.cli.main import main
from app.errors import RuleError, ServerUnreachable

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""

RULES = """
rules:
  - {rule_type: rising, expression: price_change_1m > 1, severity: high, cooldown_s: 0}
"""
TESTS = """
tests:
  - name: a rise
    candles: {A: [{minutes: 2, close: 100, quote_volume: 1}, {minutes: 1, close: 102, quote_volume: 1}]}
    expect: [{rule: rising, symbol: A, at: 2024-01-01T00:02:00Z}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    closes = [100.0 + (minute % 5) ** 2 for minute in range(300)]
    for_both = {
        "symbol": ["AUSDT", "BUSDT"] * 300,
        "open_time_ms": [START_MS + 60_000 * (row // 2) for row in range(600)],
        **{name: [close for close in closes for _ in "AB"] for name in ("open", "high", "low", "close")},
        "volume": [1.0] * 600,
    }
    pyarrow.csv.write_csv(pa.table(for_both), tmp_path / "candles.csv")
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "strict.yaml").write_text(RULES.replace("> 1", "> 4"))
    (tmp_path / "tests.yaml").write_text(TESTS)
    return tmp_path


def invoke(command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_backtest_prints_its_rules_and_writes_alerts_and_a_page(folder):
    result = invoke(backtest, folder / "candles.csv", "--rules", folder / "rules.yaml",
                    "--alerts-out", folder / "a.jsonl", "--report", folder / "page.html")  # fmt: skip
    assert result.exit_code == 0
    assert "600 candles of 2 symbols" in result.stdout
    assert "rising" in result.stdout
    alerts = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    assert {alert["symbol"] for alert in alerts} == {"AUSDT", "BUSDT"}
    assert f"{len(alerts):,} alerts" in result.stdout
    assert "Backtest of candles.csv" in (folder / "page.html").read_text()


def test_a_backtest_as_json_compares_rules_over_a_part_of_the_candles(folder):
    result = invoke(backtest, folder / "candles.csv", "--rules", folder / "rules.yaml", "--json",
                    "--compare", folder / "strict.yaml", "--symbols", "BUSDT",
                    "--from", "2024-01-01T01:00:00Z", "--to", "2024-01-01T02:00:00Z")  # fmt: skip
    found = json.loads(result.stdout)
    assert (found["candles"], found["symbols"]) == (60, 1)
    assert (found["from"], found["to"]) == ("2024-01-01T01:00:00.000Z", "2024-01-01T01:59:00.000Z")
    compared = found["compared"]["rising"]
    assert compared["kept"] > 0
    assert compared["removed"] > 0
    assert compared["added"] == 0
    again = invoke(backtest, folder / "candles.csv", "--compare", folder / "strict.yaml")
    assert "Effect of the other rules" in again.stdout


def test_a_backtest_of_more_than_one_month_tells_each(folder):
    table = pyarrow.csv.read_csv(folder / "candles.csv")
    until_february_ms = 31 * 86_400_000 - 150 * 60_000
    later = pc.add(table.column("open_time_ms"), until_february_ms)
    pyarrow.csv.write_csv(table.set_column(1, "open_time_ms", later), folder / "later.csv")
    arguments = (folder / "later.csv", "--rules", folder / "rules.yaml")
    lines = invoke(backtest, *arguments).stdout.splitlines()
    [months] = json.loads(invoke(backtest, *arguments, "--json").stdout)["rules"]
    fires = {month["month"]: month["fires"] for month in months["months"]}
    assert set(fires) == {"2024-01", "2024-02"}
    assert sum(fires.values()) == months["fires"]
    for month, count in fires.items():
        [line] = [line for line in lines if line.split()[:1] == [month]]
        assert line.split()[1] == str(count)
    assert not any("2024-01" in line for line in invoke(backtest, folder / "candles.csv").stdout.splitlines())


def test_a_backtest_without_anything_to_play_says_what_to_do(folder):
    for arguments, said in [
        ((), "give a candle FILE"),
        (("--from", "2024-01-01"), "give a candle FILE"),
        (("--from", "2024-01-02", "--to", "2024-01-01"), "must be later"),
        (("--from", "soon"), "not a time"),
        (("--from", "0001-01-01"), "not from 2010 to 2100"),
        (("--from", "9999-12-31T23:59:59.9Z"), "not from 2010 to 2100"),
        ((folder / "candles.csv", "--symbols", "NONE"), "no candle to play"),
    ]:
        result = invoke(backtest, *arguments)
        assert result.exit_code != 0
        assert said in result.output


def test_a_backtest_of_history_without_its_database_says_so(monkeypatch):
    monkeypatch.setenv("SCREENER_POSTGRES_URL", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
        invoke(backtest, "--from", "2024-01-01", "--to", "2024-01-02")


def test_a_faulty_rule_file_is_named(folder):
    (folder / "bad.yaml").write_text(RULES.replace("price_change", "price_chnge"))
    with pytest.raises(RuleError, match=r"bad\.yaml: line 3, column 37: rule rising: unknown metric"):
        invoke(backtest, folder / "candles.csv", "--rules", folder / "bad.yaml")


def test_rule_tests_pass_or_fail_with_what_was_missing(folder):
    passed = invoke(rule_tests_command, folder / "tests.yaml", "--rules", folder / "rules.yaml")
    assert passed.exit_code == 0
    assert passed.stdout.splitlines() == ["ok     tests.yaml: a rise", "1 passed, 0 failed"]
    failed = invoke(rule_tests_command, folder / "tests.yaml", "--rules", folder / "strict.yaml")
    assert failed.exit_code == 1
    assert "missing     rising A at 2024-01-01T00:02:00.000Z" in failed.stdout
    (folder / "tests.yaml").write_text(TESTS.replace("00:02", "00:01"))
    failed = invoke(rule_tests_command, folder / "tests.yaml", "--rules", folder / "rules.yaml")
    assert "unexpected  rising A at 2024-01-01T00:02:00.000Z" in failed.stdout
    (folder / "tests.yaml").write_text("tests: 5")
    with pytest.raises(RuleError, match=r"tests\.yaml: the test file needs"):
        invoke(rule_tests_command, folder / "tests.yaml")


def test_a_failing_rule_test_fails_the_program(folder, monkeypatch):
    arguments = ["screener", "test-rules", str(folder / "tests.yaml"), "--rules", str(folder / "strict.yaml")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1


def test_explain_shows_every_clause_as_text_and_json(folder):
    arguments = (
        "futures_pioneer_bull",
        "AUSDT",
        "--at",
        "2024-01-01T01:09:59Z",
        "--file",
        folder / "candles.csv",
    )
    result = invoke(explain, *arguments)
    assert "in the minute of 2024-01-01T01:09:00.000Z: false, because of price_change_5m > 1" in result.stdout
    assert "margin" in result.stdout
    tree = json.loads(invoke(explain, *arguments, "--json").stdout)
    assert [part["truth"] for part in tree["parts"]] == [False, False, False, False]
    rising = invoke(explain, "rising", *arguments[1:], "--rules", folder / "rules.yaml")
    assert ": true\n" in rising.stdout


@pytest.mark.parametrize("mode", ["close", "live"])
def test_explain_at_an_alerts_own_timestamp_explains_the_alerts_minute(folder, mode):
    out = folder / "alerts.jsonl"
    rules = ("--rules", folder / "rules.yaml")
    invoke(backtest, folder / "candles.csv", *rules, "--mode", mode, "--alerts-out", out)
    alerts = [json.loads(line) for line in out.read_text().splitlines()]
    assert alerts
    for alert in alerts[:3]:
        arguments = (alert["rule_type"], alert["symbol"], "--at", alert["timestamp"], *rules)
        result = invoke(explain, *arguments, "--file", folder / "candles.csv")
        minute = alert["metadata"]["seen"]["minute"]
        assert f"in the minute of {minute}, which fired the alert of that time: true\n" in result.stdout


def test_explain_refuses_what_it_does_not_know(folder):
    with pytest.raises(RuleError, match="did you mean futures_pioneer_bull"):
        invoke(
            explain, "futures_pioner_bull", "AUSDT", "--at", "2024-01-01", "--file", folder / "candles.csv"
        )
    with pytest.raises(RuleError, match="known: futures_big_bull_60"):
        invoke(explain, "zzz", "AUSDT", "--at", "2024-01-01", "--file", folder / "candles.csv")
    result = invoke(explain, "ichimoku_bull", "ZUSDT", "--at", "2024-01-01", "--file", folder / "candles.csv")
    assert "no candles of ZUSDT" in result.output


def test_a_period_of_a_file_begins_with_whole_windows(folder):
    (folder / "hour.yaml").write_text(
        RULES.replace("price_change_1m", "price_change_1h").replace("> 1", "< 1")
    )
    span = ("--from", "2024-01-01T02:00:00Z", "--to", "2024-01-01T02:10:00Z", "--symbols", "AUSDT, BUSDT")
    result = invoke(backtest, folder / "candles.csv", "--rules", folder / "hour.yaml", "--json", *span)
    found = json.loads(result.stdout)
    assert (found["from"], found["to"]) == ("2024-01-01T02:00:00.000Z", "2024-01-01T02:09:00.000Z")
    assert (found["candles"], found["alerts"]) == (20, 20)


@pytest.fixture
def abs_is_broken(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def broken(*values: object) -> None:
        raise ZeroDivisionError("abs is broken")

    monkeypatch.setitem(app.rules.language.functions.KERNELS, "abs", broken)
    rules = RULES + "  - {rule_type: breaking, expression: abs(price) > 1, severity: high}\n"
    (folder / "rules.yaml").write_text(rules)


def test_a_rule_that_raises_is_named_and_the_others_are_tried(folder, abs_is_broken):
    told = "breaking could not be evaluated: ZeroDivisionError: abs is broken"
    result = invoke(backtest, folder / "candles.csv", "--rules", folder / "rules.yaml")
    assert told in result.stderr
    assert "rising: 480 alerts" in result.stdout
    failed = invoke(rule_tests_command, folder / "tests.yaml", "--rules", folder / "rules.yaml")
    assert (failed.exit_code, "raised      breaking: ZeroDivisionError" in failed.stdout) == (1, True)
