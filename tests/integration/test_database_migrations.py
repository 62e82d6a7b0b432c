"""The schema: made once, by whoever comes first, and refused when it is newer than the code."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.database.connection import connection_url
from app.database.migrate import MIGRATIONS, migrate
from app.errors import SchemaTooNew, ServerUnreachable
from app.local.servers.ports import free_port
from app.settings import Settings
from app.sinks.metric_rows import VALUE_COLUMNS

ALL = sorted(path.stem for path in MIGRATIONS.glob("*.sql"))


def names(text: str) -> set[str]:
    return set(text.split())


SPEC_METRICS = names(
    "time symbol timeframe open high low close volume price_change volume_ratio vcp rsi_14 macd macd_signal "
    "macd_hist bb_upper bb_middle bb_lower atr_14 fib_r3 fib_r2 fib_r1 fib_s1 fib_s2 fib_s3"
)
BARS = "time symbol open high low close volume quote_volume trades taker_buy_volume taker_buy_quote_volume"
COLUMNS = {
    "candles_1m": names(BARS),
    "candles_5m": names(f"{BARS} minutes present"),
    **{f"candles_{length}": names(f"{BARS} minutes") for length in ("15m", "1h", "4h", "1d")},
    "candle_symbols": names("symbol newest_day rolled_to"),
    "metrics_calculated": {"time", "symbol", "timeframe", *VALUE_COLUMNS},
    "alert_history": names(
        "id time seq symbol rule_type rule_version severity description price metadata timings backfilled shadow"
    ),
    "alert_rules": names(
        "rule_type version expression severity cooldown_s description enabled mode symbols hold_s shadow updated_at"
    ),
    "alert_rule_versions": names("rule_type version expression mode hold_s stored_at"),
    "shipped_rules": names("rule_type rule"),
    "user_settings": names("user_id selected_alerts webhook_url notification_enabled updated_at"),
    "user_alert_subscriptions": names("user_id rule_type symbol created_at"),
    "user_documents": names("user_id version document updated_at"),
    "webhook_targets": names(
        "id user_id from_settings name url format secret previous_secret previous_secret_until rule_types symbols "
        "severities digest_s enabled disabled_reason failures paced held_until last_success_at active_since created_at"
    ),
    "webhook_alerts": names("alert_id seq alert kept_at"),
    "webhook_deliveries": names(
        "id target_id alert_id seq message_id status attempts due_at lease_id leased_until response_status error "
        "created_at settled_at"
    ),
    "webhook_attempts": names("message_id attempt at duration_ms response_status outcome"),
}
KEYS = {
    **{f"candles_{length}": ["symbol", "time"] for length in ("1m", "5m", "15m", "1h", "4h", "1d")},
    "metrics_calculated": ["symbol", "timeframe", "time"],
    "alert_history": ["id"],
}


def fetch(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(connection_url(settings.postgres()), autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def test_the_migrated_schema_is_what_the_code_expects(settings: Settings) -> None:
    migrate(settings.postgres())
    tables = fetch(
        settings,
        "SELECT table_name, array_agg(column_name::text) FROM information_schema.columns "
        "WHERE table_schema = current_schema() GROUP BY table_name",
    )
    found = {str(table): set(columns) for table, columns in tables if table in COLUMNS}
    assert found == COLUMNS
    assert found["metrics_calculated"] >= SPEC_METRICS


def test_rows_are_unique_by_the_keys_of_the_spec(settings: Settings) -> None:
    migrate(settings.postgres())
    keys = fetch(
        settings,
        "SELECT c.conrelid::regclass::text, array_agg(a.attname ORDER BY k.position) "
        "FROM pg_constraint AS c, unnest(c.conkey) WITH ORDINALITY AS k (number, position), "
        "pg_attribute AS a WHERE c.contype = 'p' AND c.connamespace = current_schema()::regnamespace "
        "AND a.attrelid = c.conrelid AND a.attnum = k.number GROUP BY 1",
    )
    found = {str(table): columns for table, columns in keys}
    assert {table: found[table] for table in KEYS} == KEYS


def test_migrating_twice_changes_nothing(settings: Settings) -> None:
    assert migrate(settings.postgres()) == ALL
    assert migrate(settings.postgres()) == []


def test_namespaces_have_schemas_of_their_own(settings: Settings) -> None:
    other = settings.model_copy(update={"namespace": f"{settings.namespace}_b"})
    migrate(settings.postgres())
    assert migrate(other.postgres()) == ALL


def test_migrators_at_once_apply_each_migration_once(settings: Settings) -> None:
    with ThreadPoolExecutor(6) as pool:
        applied = list(pool.map(lambda _: migrate(settings.postgres()), range(6)))
    assert sorted(name for names in applied for name in names) == ALL
    assert migrate(settings.postgres()) == []


def test_a_migration_that_fails_leaves_nothing_and_can_be_repeated(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "0001_good.sql").write_text("CREATE TABLE first_table (x integer);")
    broken = tmp_path / "0002_broken.sql"
    broken.write_text("CREATE TABLE second_table (x integer);\nSELECT 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(settings.postgres(), tmp_path)
    assert fetch(settings, "SELECT to_regclass('first_table')") == [(None,)]
    broken.write_text("CREATE TABLE second_table (x integer);")
    assert migrate(settings.postgres(), tmp_path) == ["0001_good", "0002_broken"]


def test_a_schema_of_a_newer_screener_is_refused_with_advice(settings: Settings, tmp_path: Path) -> None:
    migrate(settings.postgres())
    for path in MIGRATIONS.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "0999_of_the_future.sql").write_text("CREATE TABLE of_the_future (x integer);")
    assert migrate(settings.postgres(), tmp_path) == ["0999_of_the_future"]
    with pytest.raises(SchemaTooNew, match=r"0999_of_the_future.*SCREENER_NAMESPACE"):
        migrate(settings.postgres())


def test_a_database_that_does_not_answer_is_an_error_with_advice() -> None:
    settings = Settings.load({}, postgres_url=f"postgresql://me@127.0.0.1:{free_port()}/market")
    with pytest.raises(ServerUnreachable, match="SCREENER_POSTGRES_URL"):
        migrate(settings.postgres())
