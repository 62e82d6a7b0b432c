"""Through COPY and back: every number arrives bit by bit, and every null as null."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.database.binary_format import FloatColumns, IntColumn, TextColumn, TimeColumn, copy_stream
from app.database.connection import connection_url
from app.settings import Settings

FINITE = st.floats(allow_nan=False, allow_infinity=False)
# PostgreSQL's text holds no NUL; surrogates are not characters.
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
# timestamptz counts microseconds: to the year 9999 every millisecond is exact.
TIMES_MS = st.integers(-62_135_596_800_000, 253_402_300_799_999)


@pytest.fixture(scope="module")
def connection(stack: object) -> Iterator[psycopg.Connection]:
    url = stack.urls["postgres"]  # type: ignore[attr-defined]
    with psycopg.connect(
        connection_url(Settings.load({}, postgres_url=url).postgres()), autocommit=True
    ) as opened:
        opened.execute(
            "CREATE TEMP TABLE copied "
            "(position bigint, name text, time timestamptz, a double precision, b double precision, n bigint)"
        )
        yield opened


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_copied_is_what_is_stored(connection: psycopg.Connection, data: st.DataObject) -> None:
    names = data.draw(st.lists(TEXTS, min_size=1, max_size=4))
    rows = data.draw(st.integers(0, 30))
    index = data.draw(arrays(np.int32, rows, elements=st.integers(0, len(names) - 1)))
    times_ms = data.draw(arrays(np.int64, rows, elements=TIMES_MS))
    values = data.draw(arrays(np.float64, (rows, 2), elements=FINITE | st.just(np.nan)))
    counts = data.draw(arrays(np.int64, rows))
    stream = copy_stream(
        [
            IntColumn(np.arange(rows)),
            TextColumn(names, index),
            TimeColumn(times_ms),
            FloatColumns(values),
            IntColumn(counts),
        ]
    )
    with connection.transaction(force_rollback=True):
        with connection.cursor().copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
            copy.write(stream)
        found = connection.execute(
            "SELECT name, (extract(epoch FROM time) * 1000)::bigint, a, b, n FROM copied ORDER BY position"
        ).fetchall()
    assert [row[0] for row in found] == [names[i] for i in index]
    assert [row[1] for row in found] == times_ms.tolist()
    assert [row[4] for row in found] == counts.tolist()
    stored = np.array([[np.nan if x is None else x for x in row[2:4]] for row in found]).reshape(rows, 2)
    np.testing.assert_array_equal(stored.view(np.int64), values.view(np.int64))
