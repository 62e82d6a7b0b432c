"""Connection strings, and what their faults say."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from app.database.connection import connection_url, open_pool, server_address
from app.errors import ServerUnreachable, SettingsError
from app.local.servers.ports import free_port
from app.settings import Settings


def settings(url: str | None, **more: object) -> Settings:
    return Settings.load({}, **({"postgres_url": url} | more))


def test_the_connection_finds_the_schema_of_the_namespace_and_keeps_what_the_url_says() -> None:
    url = "postgresql://me:secret@db.example:6543/market?sslmode=require&connect_timeout=30&options=-c%20jit%3Doff"
    parts = conninfo_to_dict(
        connection_url(settings(url, namespace="blue").postgres(), statement_timeout_ms=123)
    )
    assert parts["options"] == "-c jit=off -c search_path=blue -c statement_timeout=123 -c timezone=UTC"
    assert (parts["host"], parts["port"], parts["dbname"]) == ("db.example", "6543", "market")
    assert (parts["sslmode"], int(parts["connect_timeout"])) == ("require", 30)


def test_without_namespace_the_schema_is_public() -> None:
    assert "search_path=public" in connection_url(settings("postgresql://localhost/market").postgres())


@pytest.mark.parametrize("url", [None, "mysql://localhost/x", "postgresql://host/?no_such_option=1"])
def test_a_missing_or_wrong_url_names_its_setting(url: str | None) -> None:
    with pytest.raises(SettingsError, match="SCREENER_POSTGRES_URL"):
        connection_url(settings(url).postgres())


async def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/market"
    with pytest.raises(ServerUnreachable, match="SCREENER_POSTGRES_URL") as unreachable:
        await open_pool(settings(url).postgres(), open_timeout_s=1)
    assert server_address(settings(url).postgres()) in str(unreachable.value)
    assert "secret" not in str(unreachable.value)
