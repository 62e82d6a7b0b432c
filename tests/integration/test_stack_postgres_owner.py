"""The embedded PostgreSQL is used by an ordinary owner, as any managed one would be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from app.database.migrate import migrate
from app.errors import ServerDied
from app.local.servers import postgres
from app.local.servers.embedded import EmbeddedStack
from tests.support.servers import settings_for

RIGHTS = (
    "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"
)


def test_the_screener_has_no_more_rights_than_its_database(stack: EmbeddedStack):
    with psycopg.connect(stack.urls["postgres"]) as database:
        assert database.execute(RIGHTS).fetchone() == (False, False, False, False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.execute("SELECT current_setting('shared_preload_libraries')")


def test_a_database_that_a_superuser_made_is_handed_over_with_all_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as before:
        # as directories were made before there was an owner
        before.setattr(postgres, "_make_owner", lambda *_: None)
        before.setattr(postgres, "_OWNER", postgres._SUPERUSER)
        before.setattr(postgres, "_owner_file", postgres._superuser_file)
        with EmbeddedStack.start(tmp_path, ["postgres"]) as stack:
            settings = settings_for(stack.urls, nats_url="nats://127.0.0.1:1", kafka_url="127.0.0.1:1")
            migrate(settings.postgres())
            with psycopg.connect(stack.urls["postgres"]) as database:
                assert database.execute(RIGHTS).fetchone() == (True, True, True, True)
                database.execute(f"CREATE VIEW {settings.database_schema}.seen AS SELECT 1 AS one")
                rules = database.execute(
                    f"SELECT count(*) FROM {settings.database_schema}.alert_rules"
                ).fetchone()
    with EmbeddedStack.start(tmp_path, ["postgres"]) as stack:
        again = settings.model_copy(update=settings_for(stack.urls).model_dump(include={"postgres_url"}))
        assert migrate(again.postgres()) == []
        with psycopg.connect(stack.urls["postgres"]) as database:
            assert database.execute(RIGHTS).fetchone() == (False, False, False, False)
            schema = settings.database_schema
            assert database.execute(f"SELECT count(*) FROM {schema}.alert_rules").fetchone() == rules
            owners = database.execute(
                "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = %s::regnamespace",
                (schema,),
            ).fetchall()
            assert owners == [("screener_owner",)]
            database.execute(f"ALTER TABLE {schema}.alert_rules ADD COLUMN more int")
            database.execute(f"DROP SCHEMA {schema} CASCADE")


def test_an_owner_that_cannot_be_made_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as broken:
        broken.setattr(postgres, "_MAKE_OWNER", "SELECT no_such_function('{owner}{password}');\n")
        with pytest.raises(ServerDied, match="the owner of the PostgreSQL database could not be created"):
            EmbeddedStack.start(tmp_path, ["postgres"])
    with (
        EmbeddedStack.start(tmp_path, ["postgres"]) as stack,
        psycopg.connect(stack.urls["postgres"]) as database,
    ):
        assert database.execute(RIGHTS).fetchone() == (False, False, False, False)


@pytest.mark.parametrize("name", ["password", "owner_password"])
def test_passwords_are_for_us_alone(stack: EmbeddedStack, name: str):
    assert (stack.directory / "postgres" / name).stat().st_mode & 0o077 == 0


def test_no_password_stays_in_a_file_beside(stack: EmbeddedStack):
    folder = stack.directory / "postgres"
    password = (folder / "owner_password").read_text()
    readable: Callable[[Path], bool] = lambda file: file.is_file() and file.name != "owner_password"  # noqa: E731
    assert [file.name for file in folder.iterdir() if readable(file) and password in file.read_text()] == []
