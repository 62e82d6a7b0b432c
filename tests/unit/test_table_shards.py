"""Values cut into parts: whole or not there, whatever a writer left undone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tables.shards
from app.wire.kafka import REQUEST_MAX_BYTES
from tables.shards import PIECE_MAX_BYTES, PartedValues


class Ended(Exception):
    """The writer's process ended."""


class Table(dict[str, bytes]):
    """A mapping whose writer ends after so many more changes."""

    changes_left = 1_000_000

    def _change(self) -> None:
        if not self.changes_left:
            raise Ended
        self.changes_left -= 1

    def __setitem__(self, key: str, value: bytes) -> None:
        self._change()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._change()
        super().__delitem__(key)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress."""
    return np.random.default_rng(seed).bytes(size)


def read(table: Table) -> dict[int, bytes]:
    return dict(PartedValues(table).items())


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tables.shards, "PIECE_MAX_BYTES", 100)
    return None


def test_every_shard_has_its_newest_value():
    table = Table()
    values = PartedValues(table)
    for turn in range(5):
        for shard in (0, 1, 12):
            values.write(shard, f"{shard} {turn}".encode())
    assert read(table) == {0: b"0 4", 1: b"1 4", 12: b"12 4"}
    values.write(1, b"")
    assert read(table)[1] == b""


def test_the_indicators_of_thousands_of_symbols_fit_into_records():
    table = Table()
    value = noise(REQUEST_MAX_BYTES + 1)
    PartedValues(table).write(0, value)
    assert max(map(len, table.values())) < 1_000_000
    assert len(table) > REQUEST_MAX_BYTES // PIECE_MAX_BYTES
    assert read(table) == {0: value}


@pytest.mark.usefixtures("small_pieces")
def test_a_writer_that_ends_at_any_change_leaves_the_value_before():
    values = [noise(size, size) for size in (950, 150, 720, 400, 0)]
    for changes in range(60):
        table = Table()
        table.changes_left = changes
        written = []
        try:
            for value in values:
                PartedValues(table).write(3, value)
                written.append(value)
        except Ended:
            pass
        table.changes_left = 1_000_000
        found = read(table).get(3)
        # all parts of a value may be there with only its clean-up undone
        assert found in ([written[-1]] if written else [None]) + values[len(written) : len(written) + 1]
        PartedValues(table).write(3, b"after the restart")
        assert read(table) == {3: b"after the restart"}


@pytest.mark.usefixtures("small_pieces")
def test_a_shorter_value_leaves_no_parts_of_longer_ones():
    table = Table()
    for size in (2000, 2000, 50, 50):
        PartedValues(table).write(0, noise(size))
    assert len(table) == 2


@pytest.mark.usefixtures("small_pieces")
@given(st.integers(0, 9), st.integers(0, 50))
def test_a_damaged_part_gives_back_the_value_before(part: int, at: int):
    table = Table()
    PartedValues(table).write(0, b"before")
    PartedValues(table).write(0, noise(1000))
    key = f"0:1:{part}"
    table[key] = table[key][:at] + bytes([table[key][at] ^ 1]) + table[key][at + 1 :]
    assert read(table) == {0: b"before"}


def test_records_of_another_form_are_passed_over():
    table = Table({"0": b"a value in one piece", "1:0:0": b"short", "2:0:0": b"x" * 200})
    assert read(table) == {}
    PartedValues(table).write(0, b"new")
    assert read(table) == {0: b"new"}
