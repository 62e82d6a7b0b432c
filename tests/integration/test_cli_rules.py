"""`screener rules`: the rules of a real database, seen and changed by command."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from app.cli.commands.rules import rules_group
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.errors import RuleError, SchemaTooOld, ServerUnreachable
from app.local.servers.ports import free_port
from app.rules.files import load_rules, shipped_rules
from app.settings import Settings

MINE = """
rules:
  - {rule_type: steep, expression: price_change_5m > 2, severity: high, hold_s: 60, symbols: [BTCUSDT]}
  - {rule_type: flat_1m, expression: price > 1, severity: low}
"""


@pytest.fixture
def empty_database(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Its settings are those of the environment."""
    monkeypatch.setenv("SCREENER_POSTGRES_URL", settings.server_urls().postgres)
    monkeypatch.setenv("SCREENER_NAMESPACE", settings.namespace)
    return settings


@pytest.fixture
def database(empty_database: Settings) -> Settings:
    migrate(empty_database.postgres())
    return empty_database


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    return file


def rules(*arguments: object) -> Result:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        rules_group, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result


def listed() -> dict[str, dict]:
    return {rule["rule_type"]: rule for rule in json.loads(rules("list", "--json").stdout)["rules"]}


def test_a_new_screener_lists_the_shipped_rules(database: Settings) -> None:
    assert {name for name, rule in listed().items() if rule["enabled"]} == {
        rule.rule_type for rule in shipped_rules()[:12]
    }
    assert "futures_big_bull_60" in rules("list").stdout


def test_what_is_shown_can_be_applied(database: Settings, mine: Path, tmp_path: Path) -> None:
    rules("apply", mine)
    shown = tmp_path / "shown.yaml"
    shown.write_text(rules("show").stdout)
    assert len(load_rules(shown.read_text())) == 19
    assert rules("apply", shown, "--prune").stdout.startswith("unchanged: ")
    [steep] = load_rules(rules("show", "steep").stdout)
    assert (steep.hold_s, steep.symbols) == (60, ("BTCUSDT",))
    assert "holds 60 s" in rules("list").stdout


def test_applying_a_file_says_what_became_of_each_rule(database: Settings, mine: Path) -> None:
    before = listed()
    told = rules("apply", mine, "--dry-run", "--prune").stdout
    assert "added: steep" in told
    assert "changed: flat_1m" in told
    assert "removed: bear_volume" in told
    assert "nothing was changed" in told
    assert listed() == before
    assert "removed" not in rules("apply", mine).stdout
    assert listed()["flat_1m"]["version"] == 2
    assert len(listed()) == 19
    rules("apply", mine, "--prune")
    assert set(listed()) == {"flat_1m", "steep"}


def test_a_file_with_a_faulty_rule_changes_nothing(database: Settings, mine: Path) -> None:
    mine.write_text(MINE.replace("price > 1", "price >"))
    before = listed()
    with pytest.raises(RuleError, match=r"mine\.yaml: line 4, column 45: rule flat_1m.*found the end"):
        rules("apply", mine)
    with pytest.raises(RuleError, match="found the end"):
        rules("check", mine)
    assert listed() == before


def test_rules_are_switched_on_and_off_and_deleted_all_named_or_none(database: Settings) -> None:
    assert rules("enable", "flat_1m", "flat_8h").stdout == "enabled: flat_1m, flat_8h\n"
    assert listed()["flat_8h"]["enabled"]
    rules("disable", "flat_8h")
    assert not listed()["flat_8h"]["enabled"]
    for command in ("enable", "disable", "delete"):
        with pytest.raises(RuleError, match="did you mean flat_8h"):
            rules(command, "flat_1m", "flat_8")
    rules("delete", "flat_1m", "flat_8h")
    assert len(listed()) == 16
    with pytest.raises(RuleError, match="unknown rule 'flat_1m'"):
        rules("show", "flat_1m")


def test_a_bad_rule_by_sql_is_listed_with_its_fault_and_can_be_deleted(database: Settings) -> None:
    with psycopg.connect(connection_url(database.postgres()), autocommit=True) as connection:
        connection.execute("UPDATE alert_rules SET expression = 'price >' WHERE rule_type = 'flat_1m'")
    assert "refused: rule flat_1m: " in rules("list").stdout
    assert set(json.loads(rules("list", "--json").stdout)["refused"]) == {"flat_1m"}
    shown = CliRunner().invoke(rules_group, ["show", "flat_1m"])
    assert shown.exit_code == 1
    assert "found the end" in shown.stderr
    rules("delete", "flat_1m")
    assert len(listed()) == 17


def test_a_file_is_checked_without_any_server(mine: Path) -> None:
    assert rules("check", mine).stdout == "2 rules, 2 of them enabled: all compile\n"


def test_a_database_that_was_never_migrated_or_does_not_answer_is_told_with_advice(
    empty_database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SchemaTooOld, match="screener migrate"):
        rules("list")
    monkeypatch.setenv("SCREENER_POSTGRES_URL", f"postgresql://me@127.0.0.1:{free_port()}/market")
    with pytest.raises(ServerUnreachable, match="SCREENER_POSTGRES_URL"):
        rules("list")
