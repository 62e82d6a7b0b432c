"""Names of topics, the shard of a symbol, and what counts as a barrier."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from app.wire.barrier import Barrier
from app.wire.topics import Topics, shard_of


def test_topics_are_named_within_the_namespace():
    topics = Topics.of(Settings.load({"SCREENER_NAMESPACE": "demo"}).names())
    assert topics.ingress == "demo.ingress"
    assert topics.dead_letters == "demo.dead-letters"
    assert Topics.of(Settings.load({}).names()).alerts == "alerts"


@pytest.mark.parametrize(
    ("symbol", "partitions", "shard"),
    # the first is the check value of CRC-32, 0xCBF43926
    [("123456789", 256, 0x26), ("BTCUSDT", 8, 3), ("ETHUSDT", 8, 4), ("1000PEPEUSDT", 8, 1)],
)
def test_the_shard_of_a_symbol_never_changes(symbol: str, partitions: int, shard: int):
    assert shard_of(symbol, partitions) == shard


def test_symbols_spread_over_the_shards():
    counts = Counter(shard_of(f"COIN{number}USDT", 4) for number in range(2_000))
    assert len(counts) == 4
    assert min(counts.values()) > 350


@given(st.text("abcdef0123456789-", min_size=1, max_size=40), st.integers(0, 255))
def test_a_barrier_is_read_back_as_it_was(identifier: str, partition: int):
    barrier = Barrier(identifier, partition)
    assert Barrier.decode(barrier.encode()) == barrier


@given(st.binary(max_size=30))
def test_no_other_record_is_a_barrier(data: bytes):
    assert Barrier.decode(data) is None


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b":",
        b"x",
        b"x:",
        b":1",
        b"x:one",
        b"x:-1",
        b"\xff\xfe:1",
        b"x:1\n",
        b"x y:1",
        b"x:" + b"9" * 5000,
    ],
)
def test_a_record_that_only_begins_like_a_barrier_is_none(tail: bytes):
    assert Barrier.decode(b"screener-barrier:" + tail) is None
