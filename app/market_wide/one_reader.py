"""A consumer group of which one member reads all partitions, and the others stand by.

The member that has run longest reads, so that a new member takes nothing over. Kafka notices a dead member by its
silence, and gives the partitions to the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

_TIME_BYTES = 8


def one_reader(began_ms: int) -> type[AbstractPartitionAssignor]:
    """Return the assignment strategy of a member. began_ms: UTC, since when it runs."""

    class OneReader(AbstractPartitionAssignor):  # type: ignore[misc]  # reason: aiokafka has no types
        name = "one_reader"
        version = 0

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> Any:
            user_data = began_ms.to_bytes(_TIME_BYTES, "big")
            return ConsumerProtocolMemberMetadata(cls.version, list(topics), user_data)

        @classmethod
        def assign(
            cls, cluster: ClusterMetadata, members: Mapping[str, Any]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            reader = min(members, key=lambda member: (bytes(members[member].user_data), member))
            topics = sorted({topic for member in members.values() for topic in member.subscription})
            all_of_them = [(topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in topics]
            return {
                member: ConsumerProtocolMemberAssignment(
                    cls.version, all_of_them if member == reader else [], b""
                )
                for member in members
            }

        @classmethod
        def on_assignment(cls, assignment: Any) -> None:
            """Do nothing: it keeps no state."""

    return OneReader
