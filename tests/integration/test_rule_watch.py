"""The rules in force in a worker: those of a real database, its changes, its faults, and its absence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

import app.alerts.rule_watch
from app.alerts.known_rules import KnownRules
from app.alerts.rule_watch import RuleWatch
from app.database.connection import connection_url, open_pool
from app.database.migrate import migrate
from app.database.rule_store import RuleStore
from app.local.servers.embedded import EmbeddedStack
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import shipped_rules
from app.rules.rule import Rule
from app.settings import Settings
from app.telemetry import alert_metrics
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from tests.support.rule_watches import rule_watch
from tests.support.servers import settings_for

REGISTRY = CollectorRegistry()
METRICS = alert_metrics(REGISTRY)

STEEP = Rule("steep", "price_change_5m > 2", "high")
SHIPPED = {rule.rule_type for rule in shipped_rules() if rule.enabled}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"data_dir": tmp_path})


@pytest.fixture(autouse=True)
def _no_look_without_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a change of which no word came would be found by looking, only later."""
    monkeypatch.setattr(app.alerts.rule_watch, "_POLL_S", 3_600.0)


def in_force(watch: RuleWatch) -> dict[str, Rule]:
    return {rule.rule_type: rule for rule in watch.book.rules}


@asynccontextmanager
async def watching(settings: Settings) -> AsyncIterator[RuleWatch]:
    """As a worker has it: begun, then followed."""
    watch = rule_watch(settings, REGISTRY)
    await watch.begin()
    following = asyncio.create_task(watch.run())
    try:
        yield watch
        assert not following.done()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@asynccontextmanager
async def rule_store(settings: Settings) -> AsyncIterator[RuleStore]:
    async with await open_pool(settings.postgres()) as pool:
        yield RuleStore(pool)


def run_sql(settings: Settings, statement: str) -> None:
    with psycopg.connect(connection_url(settings.postgres()), autocommit=True) as connection:
        connection.execute(statement)


def degraded() -> bool:
    return bool(value_of(METRICS.rules_degraded))


def refused() -> float:
    return value_of(METRICS.rule_changes.labels(operation="refused"))


async def becomes(watch: RuleWatch, rule_types: set[str]) -> None:
    """Fails with the rules in force if they do not become these."""

    def same() -> bool:
        return set(in_force(watch)) == rule_types

    try:
        await eventually(same)
    except AssertionError:
        assert set(in_force(watch)) == rule_types


async def test_a_worker_begins_with_the_enabled_rules_of_the_database(settings: Settings) -> None:
    migrate(settings.postgres())
    async with rule_store(settings) as store:
        await store.put(STEEP)
        await store.delete("ichimoku_bear")
    watch = rule_watch(settings, REGISTRY)
    assert len(watch.book.rules) == 0
    await watch.begin()
    assert set(in_force(watch)) == SHIPPED - {"ichimoku_bear"} | {"steep"}
    assert value_of(METRICS.rules) == 12
    assert not degraded()


async def test_every_change_arrives_whoever_makes_it_and_is_logged(settings: Settings) -> None:
    migrate(settings.postgres())
    async with watching(settings) as watch, rule_store(settings) as store:
        with capture_logs() as logs:
            await store.put(STEEP)
            await becomes(watch, SHIPPED | {"steep"})
            book = watch.book
            run_sql(settings, "UPDATE alert_rules SET expression = 'price > 5' WHERE rule_type = 'steep'")
            await eventually(
                lambda: in_force(watch)["steep"] == replace(STEEP, expression="price > 5", version=2)
            )
            assert watch.book is not book
            await store.enable("steep", enabled=False)
            await becomes(watch, SHIPPED)
            run_sql(settings, "DELETE FROM alert_rules WHERE rule_type LIKE 'futures%'")
            await becomes(watch, {"ichimoku_bull", "ichimoku_bear"})
            run_sql(settings, "TRUNCATE alert_rules")
            await becomes(watch, set())
    told = [log for log in logs if log["event"] == "rules_changed"]
    assert [(log.get("added"), log.get("changed")) for log in told][:3] == [
        (["steep"], None), (None, ["steep"]), (None, ["steep"])
    ]  # fmt: skip
    assert set(told[3]["removed"]) == SHIPPED - {"ichimoku_bull", "ichimoku_bear"}
    assert [log["enabled"] for log in told] == [13, 13, 12, 2, 0]


async def test_many_changes_in_a_row_end_in_the_last_state(settings: Settings) -> None:
    migrate(settings.postgres())
    async with watching(settings) as watch, rule_store(settings) as store:
        for number in range(40):
            await store.put(replace(STEEP, rule_type=f"steep_{number}"))
            await store.delete(f"steep_{number - 1}")
        await becomes(watch, SHIPPED | {"steep_39"})


async def test_the_same_rules_in_the_table_again_leave_the_book_alone(settings: Settings) -> None:
    migrate(settings.postgres())
    async with watching(settings) as watch, rule_store(settings) as store:
        book = watch.book
        run_sql(settings, "UPDATE alert_rules SET updated_at = now()")
        run_sql(settings, "UPDATE alert_rules SET expression = expression")
        await store.put(STEEP)
        await becomes(watch, SHIPPED | {"steep"})
        unchanged = [rule for rule in watch.book.rules if rule is not STEEP and rule in book.rules]
        assert len(unchanged) == 12


async def test_a_bad_rule_by_sql_is_refused_told_and_counted_and_its_last_good_form_stays(
    settings: Settings,
) -> None:
    migrate(settings.postgres())
    async with watching(settings) as watch, rule_store(settings) as store:
        await store.put(STEEP)
        await becomes(watch, SHIPPED | {"steep"})
        before = refused()
        with capture_logs() as logs:
            run_sql(settings, "UPDATE alert_rules SET expression = 'price >' WHERE rule_type = 'steep'")
            await eventually(lambda: refused() == before + 1)
            assert in_force(watch)["steep"] == STEEP
            assert value_of(METRICS.rules_refused) == 1
            await store.put(replace(STEEP, rule_type="another"))
            await becomes(watch, SHIPPED | {"steep", "another"})
            assert refused() == before + 1
        [told] = [log for log in logs if log["event"] == "rule_refused"]
        assert told["rule_type"] == "steep"
        assert "found the end" in told["error"]
        await store.put(replace(STEEP, severity="low"))
        await eventually(lambda: in_force(watch)["steep"].severity == "low")
        assert value_of(METRICS.rules_refused) == 0


async def test_a_change_of_which_no_word_comes_is_found_by_looking(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(settings.postgres())
    run_sql(settings, "DROP TRIGGER tell_of_changed_rules ON alert_rules")
    monkeypatch.setattr(app.alerts.rule_watch, "_POLL_S", 0.1)
    async with watching(settings) as watch:
        run_sql(settings, "DELETE FROM alert_rules WHERE rule_type <> 'ichimoku_bull'")
        await becomes(watch, {"ichimoku_bull"})


async def test_screeners_that_share_a_database_follow_their_own_rules(settings: Settings) -> None:
    other = settings.model_copy(update={"namespace": settings.namespace + "_b"})
    for one in (settings, other):
        migrate(one.postgres())
    async with watching(settings) as watch, watching(other) as beside:
        run_sql(settings, "DELETE FROM alert_rules WHERE rule_type <> 'ichimoku_bull'")
        await becomes(watch, {"ichimoku_bull"})
        assert set(in_force(beside)) == SHIPPED


async def test_before_the_database_is_migrated_the_shipped_rules_are_in_force_and_the_log_says_what_to_do(
    settings: Settings,
) -> None:
    with capture_logs() as logs:
        async with watching(settings) as watch:
            assert set(in_force(watch)) == SHIPPED
            assert degraded()
            migrate(settings.postgres())
            run_sql(settings, "DELETE FROM alert_rules WHERE rule_type <> 'ichimoku_bull'")
            await becomes(watch, {"ichimoku_bull"})
            assert not degraded()
    [told] = [log for log in logs if log["event"] == "rules_unavailable"]
    assert "screener migrate" in told["error"]


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedStack]:
    with EmbeddedStack.start(tmp_path / "stack", ["postgres"]) as running:
        yield running


async def test_while_the_database_is_away_the_last_known_rules_go_on(
    own_postgres: EmbeddedStack, tmp_path: Path
) -> None:
    settings = settings_for(own_postgres.urls, data_dir=tmp_path / "data")
    process = own_postgres.processes["postgres"]
    migrate(settings.postgres())
    known = SHIPPED | {"steep"}
    async with watching(settings) as watch:
        # commits after those of the migration, and so makes these survive as well
        async with rule_store(settings) as store:
            await store.put(STEEP)
            await becomes(watch, known)
        process.kill()
        await eventually(degraded)
        assert set(in_force(watch)) == known

        async with watching(settings) as started_meanwhile:
            assert set(in_force(started_meanwhile)) == known
        elsewhere = settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
        async with watching(elsewhere) as knows_none:
            assert set(in_force(knows_none)) == SHIPPED
        assert degraded()

        process.start()
        await eventually(lambda: answers(settings), within_s=60)
        run_sql(settings, "DELETE FROM alert_rules WHERE rule_type <> 'steep'")
        await becomes(watch, {"steep"})
        assert not degraded()


def answers(settings: Settings) -> bool:
    try:
        run_sql(settings, "SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'[{"rule_type": "x"}]', b"\xff"])
def test_a_file_of_known_rules_that_cannot_be_used_is_as_none(settings: Settings, content: bytes) -> None:
    known = KnownRules(settings.data_dir, settings.names())
    assert known.read() is None
    known.write([STEEP])
    assert known.read() == (STEEP,)
    [file] = (settings.data_dir / "rules").iterdir()
    file.write_bytes(content)
    with capture_logs() as logs:
        assert not known.read()
    assert content == b"{}" or [log["event"] for log in logs] == ["known_rules_unreadable"]


def test_known_rules_that_cannot_be_written_are_logged_only(settings: Settings) -> None:
    (settings.data_dir / "rules").write_text("a file where the folder should be")
    with capture_logs() as logs:
        KnownRules(settings.data_dir, settings.names()).write([STEEP])
    assert [log["event"] for log in logs] == ["known_rules_not_written"]


async def test_the_mode_of_the_settings_is_that_of_rules_without_one(settings: Settings) -> None:
    migrate(settings.postgres())
    watch = rule_watch(settings.model_copy(update={"alert_mode": "close"}), REGISTRY)
    await watch.begin()
    assert isinstance(watch.book, RuleBook)
    assert set(watch.book.modes) == {"close"}
