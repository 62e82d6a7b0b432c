"""How long the broker keeps records: by age since arrival, by size, and by what memory there is."""

from __future__ import annotations

import pytest

from app.local.broker.topics import TopicError, TopicLogs
from tests.support.kafka_batches import batch_of

BATCH = batch_of([b"x" * 1000])
PLENTY = 1 << 30


def _filled(topics: TopicLogs, name: str, arrivals_ms: list[int], **configs: str) -> None:
    topics.create(name, 1, {key.replace("_", "."): value for key, value in configs.items()})
    log = topics.log(name, 0)
    assert log is not None
    for arrival_ms in arrivals_ms:
        log.append(BATCH, arrival_ms)


def _kept(topics: TopicLogs, name: str) -> int:
    log = topics.log(name, 0)
    assert log is not None
    return log.end_offset - log.start_offset


def no_groups(topic: str, partition: int) -> None:
    """Nobody has committed anything."""


def test_records_older_than_retention_go() -> None:
    topics = TopicLogs(PLENTY)
    _filled(topics, "t", [0, 400, 800, 1200], retention_ms="1000")
    assert topics.enforce_retention(1500, no_groups) == 0
    assert _kept(topics, "t") == 2


def test_age_counts_from_arrival_so_that_replayed_records_stay() -> None:
    topics = TopicLogs(PLENTY)
    topics.create("t", 1, {"retention.ms": "1000"})
    log = topics.log("t", 0)
    assert log is not None
    log.append(batch_of([b"of long ago"], timestamp_ms=1), now_ms=5_000_000)
    topics.enforce_retention(5_000_500, no_groups)
    assert _kept(topics, "t") == 1


def test_a_partition_keeps_at_least_its_retention_bytes() -> None:
    topics = TopicLogs(PLENTY)
    _filled(topics, "t", [0] * 10, retention_bytes=str(3 * len(BATCH)))
    topics.enforce_retention(0, no_groups)
    assert _kept(topics, "t") == 3


@pytest.mark.parametrize(
    "configs", [{"retention_ms": "-1", "retention_bytes": "-1"}, {"cleanup_policy": "compact"}]
)
def test_some_topics_keep_everything(configs: dict[str, str]) -> None:
    topics = TopicLogs(PLENTY)
    _filled(topics, "t", [0] * 10, **configs)
    topics.enforce_retention(10**12, no_groups)
    assert _kept(topics, "t") == 10


def test_when_memory_is_full_the_oldest_of_all_topics_go_first() -> None:
    topics = TopicLogs(max_bytes=6 * len(BATCH))
    _filled(topics, "old", [0, 1, 20])
    _filled(topics, "new", [2, 10, 30])
    _filled(topics, "table", [0, 0], cleanup_policy="compact")
    assert topics.enforce_retention(40, no_groups) == 2 * len(BATCH)
    assert (_kept(topics, "old"), _kept(topics, "new"), _kept(topics, "table")) == (1, 3, 2)


def test_when_memory_is_full_topics_that_are_kept_shortest_give_way_to_the_others() -> None:
    topics = TopicLogs(max_bytes=3 * len(BATCH))
    _filled(topics, "candles", [0, 1], retention_ms="172800000")
    _filled(topics, "for_ever", [0], retention_ms="-1")
    _filled(topics, "metrics", [10, 11], retention_ms="7200000")
    assert topics.enforce_retention(40, no_groups) == 2 * len(BATCH)
    assert (_kept(topics, "candles"), _kept(topics, "for_ever"), _kept(topics, "metrics")) == (2, 1, 0)


def test_when_memory_is_full_what_every_group_has_read_goes_before_anything_else() -> None:
    topics = TopicLogs(max_bytes=4 * len(BATCH))
    _filled(topics, "candles", [0, 1, 2], retention_ms="172800000")
    _filled(topics, "metrics", [10, 11, 12], retention_ms="7200000")
    committed = {"candles": 2, "metrics": 0}
    assert topics.enforce_retention(40, lambda topic, _: committed[topic]) == 0
    assert (_kept(topics, "candles"), _kept(topics, "metrics")) == (1, 3)


def test_a_full_memory_says_how_much_went_that_some_group_had_not_read() -> None:
    topics = TopicLogs(max_bytes=2 * len(BATCH))
    _filled(topics, "candles", [0, 1, 2], retention_ms="172800000")
    _filled(topics, "metrics", [10, 11], retention_ms="7200000")
    assert topics.enforce_retention(40, lambda topic, _: {"candles": 1}.get(topic)) == 2 * len(BATCH)
    assert (_kept(topics, "candles"), _kept(topics, "metrics")) == (2, 0)


def test_a_table_may_be_compacted_and_deleted() -> None:
    topics = TopicLogs(PLENTY)
    _filled(topics, "t", [0, 900], cleanup_policy="compact,delete", retention_ms="500")
    topics.enforce_retention(1000, no_groups)
    assert _kept(topics, "t") == 1


@pytest.mark.parametrize(
    ("name", "partitions", "configs"),
    [
        ("t", 0, {}),
        ("t", 5000, {}),
        ("", 1, {}),
        ("..", 1, {}),
        ("a b", 1, {}),
        ("t", 1, {"retention.ms": "soon"}),
    ],
)
def test_impossible_topics_are_refused(name: str, partitions: int, configs: dict[str, str]) -> None:
    topics = TopicLogs(PLENTY)
    with pytest.raises(TopicError):
        topics.create(name, partitions, configs)
    assert list(topics) == []
