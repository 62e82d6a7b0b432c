"""The rules in the database: shipped ones brought along, edits kept, and only good ones let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from app.database.connection import connection_url, open_pool
from app.database.migrate import MIGRATIONS, migrate
from app.database.rule_seed import seed_rules
from app.database.rule_store import RuleStore
from app.errors import RuleError
from app.rules.files import shipped_rules
from app.rules.rule import MAX_VERSION, MODES, SEVERITIES, Rule
from app.settings import Settings

STEEP = Rule("steep", "price_change_5m > 2", "high", 60, "a steep rise", 3, False, "close", ("BTCUSDT",), 120)


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[AsyncConnection]:
    migrate(settings.postgres())
    async with await AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True
    ) as connected:
        yield connected


@pytest.fixture
async def store(connection: AsyncConnection, settings: Settings) -> AsyncIterator[RuleStore]:
    async with await open_pool(settings.postgres()) as pool:
        yield RuleStore(pool)


def seed(settings: Settings, *rules: Rule) -> None:
    with psycopg.connect(connection_url(settings.postgres())) as connection:
        seed_rules(connection, rules)


async def test_a_new_database_holds_the_shipped_rules_of_which_the_first_twelve_are_enabled(
    store: RuleStore,
) -> None:
    assert await store.all() == sorted(shipped_rules(), key=lambda rule: rule.rule_type)
    assert {rule.rule_type for rule in await store.all() if rule.enabled} == {
        rule.rule_type for rule in shipped_rules()[:12]
    }


async def test_what_is_put_comes_back_the_same(store: RuleStore) -> None:
    assert await store.put(STEEP) == STEEP
    assert await store.get("steep") == STEEP
    plain = Rule("plain", "price > 1", "low")
    await store.put(plain)
    assert [rule for rule in await store.all() if rule in (STEEP, plain)] == [plain, STEEP]
    assert await store.get("nothing") is None


async def test_a_deleted_rule_is_gone_and_deleting_nothing_says_so(store: RuleStore) -> None:
    await store.put(STEEP)
    assert await store.delete("steep")
    assert not await store.delete("steep")
    assert not await store.delete("no\0such\ud800rule")
    assert await store.get("steep") is None


async def test_a_rule_is_switched_on_and_off_and_keeps_its_version(store: RuleStore) -> None:
    await store.put(STEEP)
    assert await store.enable("steep")
    assert await store.get("steep") == replace(STEEP, enabled=True)
    assert await store.enable("steep", enabled=False)
    assert await store.get("steep") == STEEP
    assert not await store.enable("nothing")


@pytest.mark.parametrize("change", [{"expression": "price > 2"}, {"hold_s": 0}, {"mode": None}])
async def test_a_change_of_meaning_raises_the_version_unless_the_given_one_is_higher(
    store: RuleStore, change: dict[str, Any]
) -> None:
    await store.put(STEEP)
    assert await store.put(replace(STEEP, **change)) == replace(STEEP, **change, version=4)
    assert await store.put(replace(STEEP, version=9)) == replace(STEEP, version=9)


async def test_what_does_not_change_the_meaning_keeps_the_version_which_never_falls(store: RuleStore) -> None:
    await store.put(STEEP)
    louder = replace(STEEP, severity="critical", cooldown_s=0, symbols=None, version=1)
    assert await store.put(louder) == replace(louder, version=3)


async def test_plain_sql_that_changes_the_meaning_raises_the_version_too(
    store: RuleStore, connection: AsyncConnection
) -> None:
    await store.put(STEEP)
    before = await updated_at(connection)
    await connection.execute("UPDATE alert_rules SET expression = 'price > 9' WHERE rule_type = 'steep'")
    assert await store.get("steep") == replace(STEEP, expression="price > 9", version=4)
    assert await updated_at(connection) > before


async def updated_at(connection: AsyncConnection) -> Any:
    cursor = await connection.execute("SELECT updated_at FROM alert_rules WHERE rule_type = 'steep'")
    return (await cursor.fetchone() or (None,))[0]


async def test_a_bad_rule_by_sql_is_told_apart_and_takes_no_good_one_down(
    store: RuleStore, connection: AsyncConnection
) -> None:
    await store.put(STEEP)
    await connection.execute("UPDATE alert_rules SET expression = 'price_chnge_5m > 2' WHERE version = 3")
    stored = await store.load()
    assert set(stored.refused) == {"steep"}
    assert "did you mean `price_change_5m`" in stored.refused["steep"]
    assert len(stored.rules) == 18
    with pytest.raises(RuleError, match="price_chnge_5m"):
        await store.get("steep")


@pytest.mark.parametrize(
    "assignment",
    ["severity = 'loud'", "mode = 'slow'", "cooldown_s = 700000", "hold_s = -1", "symbols = '{}'",
     "rule_type = 'No Name'", "expression = ''", "version = 0"],
)  # fmt: skip
async def test_what_can_be_no_rule_is_refused_by_the_database_itself(
    connection: AsyncConnection, assignment: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await connection.execute(f"UPDATE alert_rules SET {assignment} WHERE rule_type = 'bull_whale'")


async def test_a_set_of_rules_is_applied_at_once(store: RuleStore) -> None:
    await store.put(STEEP)
    kept = await store.get("bull_whale")
    assert kept is not None
    calm = Rule("calm", "price < 1", "info")
    given = (replace(STEEP, severity="low"), calm, kept)
    dry = await store.apply(given, prune=True, dry_run=True)
    assert (dry.added, dry.changed, dry.unchanged) == (("calm",), ("steep",), ("bull_whale",))
    assert len(dry.removed) == 17
    assert len(await store.all()) == 19
    assert await store.apply(given, prune=True) == dry
    assert await store.all() == [kept, calm, replace(STEEP, severity="low")]


async def test_more_rules_than_the_limit_are_refused_and_none_of_them_stays(
    store: RuleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.database.rule_store.MAX_RULES", 19)
    await store.put(STEEP)
    more = [Rule(f"more_{number}", "price > 1", "low") for number in range(2)]
    with pytest.raises(RuleError, match="exceed the limit of 19"):
        await store.apply(more)
    with pytest.raises(RuleError, match="exceed the limit of 19"):
        await store.put(more[0])
    assert len(await store.all()) == 19


async def test_rules_that_remember_too_much_are_refused_and_none_of_them_stays(
    settings: Settings, store: RuleStore
) -> None:
    dear = Rule("dear", "price > average(price, 1d)", "low")
    async with await open_pool(settings.postgres()) as pool:
        small = RuleStore(pool, values_max=1_000)
        for change in (small.put(dear), small.apply([dear])):
            with pytest.raises(RuleError, match=r"would remember [\d,]+ values .* the limit is 1,000"):
                await change
        assert await store.get("dear") is None
        assert await small.put(replace(dear, enabled=False))
        with pytest.raises(RuleError, match="would remember"):
            await small.enable("dear")
        assert await store.enable("dear")


async def test_an_edited_a_disabled_and_a_deleted_shipped_rule_stay_so_when_it_is_migrated_again(
    store: RuleStore, settings: Settings
) -> None:
    shipped = shipped_rules()[0]
    edited = await store.put(replace(shipped, expression="price_change_1h > 5"))
    await store.enable("futures_big_bear_60", enabled=False)
    await store.delete("flat_1m")
    before = await store.all()
    migrate(settings.postgres())
    assert await store.all() == before
    assert edited in before


async def test_a_newly_shipped_form_replaces_only_what_nobody_edited(
    store: RuleStore, settings: Settings
) -> None:
    one, other = shipped_rules()[:2]
    await store.enable(one.rule_type, enabled=False)
    edited = await store.put(replace(other, cooldown_s=1))
    newer = [replace(rule, expression="price_change_1h > 7", version=2) for rule in (one, other)]
    new = Rule("brand_new", "price > 1", "low")
    for _ in range(2):
        seed(settings, *newer, new)
        assert await store.get(one.rule_type) == replace(newer[0], enabled=False)
        assert await store.get(other.rule_type) == edited
        assert await store.get("brand_new") == new
        await store.delete("flat_8h")


def test_a_database_of_the_version_before_gets_the_rules_and_keeps_its_own(
    settings: Settings, tmp_path: Path
) -> None:
    for path in sorted(MIGRATIONS.glob("000[123]_*.sql")):
        (tmp_path / path.name).write_text(path.read_text())
    migrate(settings.postgres(), tmp_path)
    with psycopg.connect(connection_url(settings.postgres()), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO alert_rules (rule_type, expression, severity, enabled)"
            " VALUES ('flat_1m', 'price > 1', 'low', true)"
        )
    migrate(settings.postgres())
    with psycopg.connect(connection_url(settings.postgres())) as connection:
        found = dict(connection.execute("SELECT rule_type, expression FROM alert_rules").fetchall())
    assert len(found) == 18
    assert found["flat_1m"] == "price > 1"


rules = st.builds(
    Rule,
    rule_type=st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
    expression=st.sampled_from(["price > 1", "prev(rsi_14_5m)\n<  30"]),
    severity=st.sampled_from(SEVERITIES),
    cooldown_s=st.integers(0, 604_800),
    description=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50),
    version=st.integers(1, MAX_VERSION),
    enabled=st.booleans(),
    mode=st.none() | st.sampled_from(MODES),
    symbols=st.none()
    | st.lists(st.sampled_from(["BTCUSDT", "1000ЖUSDT", "币安人生_-USDT"]), min_size=1).map(tuple),
    hold_s=st.integers(0, 86_400),
)


@given(st.lists(rules, min_size=20, max_size=40, unique_by=lambda rule: rule.rule_type))
@hypothesis_settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_rules_survive_the_database(settings: Settings, given: list[Rule]) -> None:
    async def round_trip() -> list[Rule]:
        async with await open_pool(settings.postgres()) as pool:
            store = RuleStore(pool)
            await store.apply([], prune=True)
            await store.apply(given)
            return await store.all()

    migrate(settings.postgres())
    assert asyncio.run(round_trip()) == sorted(given, key=lambda rule: rule.rule_type)
