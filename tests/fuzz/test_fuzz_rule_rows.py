"""Mutated rows of `alert_rules`, written by plain SQL: no row may end a worker or make it lose another rule."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from app.database.connection import connection_url, open_pool
from app.database.migrate import migrate
from app.database.rule_store import RuleStore
from app.rules.files import shipped_rules
from app.settings import Settings
from tests.support.rule_watches import rule_watch

INPUTS = int(os.environ.get("FUZZ_INPUTS", "2000"))
TIMEOUT_S = max(300, INPUTS // 10)
BATCH = 50
SHIPPED = shipped_rules()
ODD_TEXTS = (
    "", " ", "a", "price > 1", "price", "prev(", "((((", "1/0 > 1", "nan > 1", "price > 1e999", "\u202e", "🙂" * 300,
    "crosses_above(rsi_14_15m, 70)", "crosses_above(1, 2)", "prev(1) > 2", "(" * 999 + "1" + ")" * 999,
    "not " * 400 + "price > 1",
    "price > " + "9" * 1900, "abs(" * 300, "critical", "live", "close", "LIVE",
    "x" * 64, "x" * 65, "true", "null", "a\nb\tc", "'; --",
)  # fmt: skip
ODD_NUMBERS = (-(2**31), -1, 0, 1, 300, 86_400, 86_401, 604_800, 604_801, 2**31 - 1)
ODD_LISTS: tuple[Any, ...] = (
    None, [], ["BTCUSDT"], [None], ["BTCUSDT", None], [["A", "B"], ["C", "D"]], [""], ["BTC🙂"], ["x" * 5000],
    ["BTCUSDT"] * 5000, ["BTCUSDT"] * 5001, ["btcusdt", "*"],
)  # fmt: skip
INSERT = """
    INSERT INTO alert_rules
        (rule_type, version, expression, severity, cooldown_s, description, enabled, updated_at, mode, symbols, hold_s)
    VALUES (%(rule_type)s, %(version)s, %(expression)s, %(severity)s, %(cooldown_s)s, %(description)s, %(enabled)s,
            %(updated_at)s::timestamptz, %(mode)s, %(symbols)s::text[], %(hold_s)s)
    ON CONFLICT (rule_type) DO UPDATE SET (version, expression, severity, cooldown_s, description, enabled, updated_at,
        mode, symbols, hold_s) = (excluded.version, excluded.expression, excluded.severity, excluded.cooldown_s,
        excluded.description, excluded.enabled, excluded.updated_at, excluded.mode, excluded.symbols, excluded.hold_s)
"""


def mutated(chance: random.Random, number: int) -> dict[str, Any]:
    """Return a valid rule with odd values in some columns."""
    rule = chance.choice(SHIPPED)
    row: dict[str, Any] = {
        "rule_type": f"fuzz_{number % 40}",
        "version": 1,
        "expression": rule.expression,
        "severity": rule.severity,
        "cooldown_s": rule.cooldown_s,
        "description": rule.description,
        "enabled": True,
        "updated_at": "now",
        "mode": None,
        "symbols": None,
        "hold_s": 0,
    }
    odd = {
        **dict.fromkeys(("rule_type", "expression", "severity", "description", "mode"), ODD_TEXTS),
        **dict.fromkeys(("version", "cooldown_s", "hold_s"), ODD_NUMBERS),
        "symbols": ODD_LISTS,
        "updated_at": ("infinity", "-infinity", "4713-01-01 BC", "294000-01-01"),
        "enabled": (False,),
    }
    for column in chance.sample(sorted(odd), chance.randint(1, 3)):
        row[column] = chance.choice(odd[column])
    if chance.random() < 0.5:  # the text itself, cut and spliced
        text = row["expression"]
        at, other = chance.randint(0, len(text)), chance.choice(SHIPPED).expression
        row["expression"] = text[:at] + chance.choice(
            (other[at:], "", text[at:][::-1], chance.choice(ODD_TEXTS))
        )
    return row


@pytest.mark.timeout(TIMEOUT_S)
async def test_no_row_of_the_rules_ends_a_worker_or_costs_it_another_rule(
    settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"data_dir": tmp_path})
    migrate(settings.postgres())
    chance, stored, refused = random.Random(10), 0, 0
    canary = replace(SHIPPED[0], rule_type="canary", enabled=True)
    watch = rule_watch(settings)
    async with (
        await open_pool(settings.postgres()) as pool,
        await AsyncConnection.connect(connection_url(settings.postgres()), autocommit=True) as connection,
    ):
        store = RuleStore(pool)
        await store.apply([canary], prune=True)
        await watch.begin()
        for start in range(0, INPUTS, BATCH):
            for number in range(start, start + BATCH):
                try:
                    await connection.execute(INSERT, mutated(chance, number))
                    stored += 1
                except (psycopg.errors.IntegrityError, psycopg.errors.DataError):
                    refused += 1
            found = await store.load()
            count = await (await connection.execute("SELECT count(*) FROM alert_rules")).fetchone()
            assert count == (len(found.rules) + len(found.refused),)
            async with await watch._listen():
                assert "canary" in {rule.rule_type for rule in watch.book.rules}
                enabled = {rule.rule_type for rule in found.rules if rule.enabled}
                assert enabled <= {rule.rule_type for rule in watch.book.rules}
            if start % (10 * BATCH) == 0:
                await connection.execute("DELETE FROM alert_rules WHERE rule_type <> 'canary'")
    # the database must accept some of the invalid rules, and reject others
    assert stored > INPUTS // 10
    assert refused > INPUTS // 10
