"""Metadata, CreateTopics, DeleteTopics, DescribeConfigs: the broker and its topics."""

from __future__ import annotations

from collections.abc import Iterable

from kio.schema.create_topics.v3 import request as create_request
from kio.schema.create_topics.v3 import response as create_response
from kio.schema.delete_topics.v3 import request as delete_request
from kio.schema.delete_topics.v3 import response as delete_response
from kio.schema.describe_configs.v2 import request as configs_request
from kio.schema.describe_configs.v2 import response as configs_response
from kio.schema.errors import ErrorCode
from kio.schema.metadata.v5 import request as metadata_request
from kio.schema.metadata.v5 import response as metadata_response
from kio.schema.types import BrokerId, TopicName
from kio.static.primitive import i8, i32

from app.local.broker.api import NO_THROTTLE, NODE_ID, Api
from app.local.broker.topics import Topic, TopicError, TopicLogs

_TOPIC_RESOURCE = 2
_TOPIC_CONFIG_SOURCE = 1


class TopicApi:
    """Answers requests about the broker and `topics`. `host` and `port`: the broker's address, as clients are told."""

    def __init__(self, topics: TopicLogs, cluster_id: str, host: str, port: int) -> None:
        self._topics = topics
        self._cluster_id = cluster_id
        self._host = host
        self._port = port

    def apis(self) -> Iterable[Api]:
        yield Api(metadata_request.MetadataRequest, self.metadata)
        yield Api(create_request.CreateTopicsRequest, self.create_topics)
        yield Api(delete_request.DeleteTopicsRequest, self.delete_topics)
        yield Api(configs_request.DescribeConfigsRequest, self.describe_configs)

    async def metadata(self, request: metadata_request.MetadataRequest) -> metadata_response.MetadataResponse:
        """Describe the broker and topics. Asking for a topic never creates it."""
        if request.topics is None:
            names = [topic.name for topic in self._topics]
        else:
            names = [str(topic.name) for topic in request.topics]
        broker = metadata_response.MetadataResponseBroker(
            node_id=BrokerId(NODE_ID), host=self._host, port=i32(self._port)
        )
        return metadata_response.MetadataResponse(
            throttle_time=NO_THROTTLE,
            brokers=(broker,),
            cluster_id=self._cluster_id,
            controller_id=BrokerId(NODE_ID),
            topics=tuple(_describe(name, self._topics.get(name)) for name in names),
        )

    async def create_topics(
        self, request: create_request.CreateTopicsRequest
    ) -> create_response.CreateTopicsResponse:
        return create_response.CreateTopicsResponse(
            throttle_time=NO_THROTTLE,
            topics=tuple(self._create(topic, request.validate_only) for topic in request.topics),
        )

    def _create(
        self, wanted: create_request.CreatableTopic, validate_only: bool
    ) -> create_response.CreatableTopicResult:
        error, message = ErrorCode.none, None
        partitions = len(wanted.assignments) or max(int(wanted.num_partitions), 1)
        if wanted.num_partitions == 0:
            partitions = 0
        configs = {one.name: one.value for one in wanted.configs if one.value is not None}
        if wanted.replication_factor not in (-1, 1):
            error = ErrorCode.invalid_replication_factor
            message = f"this is one broker: replication factor 1, not {wanted.replication_factor}"
        else:
            try:
                act = self._topics.check if validate_only else self._topics.create
                act(wanted.name, partitions, configs)
            except TopicError as fault:
                error, message = fault.code, str(fault)
        return create_response.CreatableTopicResult(name=wanted.name, error_code=error, error_message=message)

    async def delete_topics(
        self, request: delete_request.DeleteTopicsRequest
    ) -> delete_response.DeleteTopicsResponse:
        results = []
        for name in request.topic_names:
            there = self._topics.delete(name)
            error = ErrorCode.none if there else ErrorCode.unknown_topic_or_partition
            results.append(delete_response.DeletableTopicResult(name=name, error_code=error))
        return delete_response.DeleteTopicsResponse(throttle_time=NO_THROTTLE, responses=tuple(results))

    async def describe_configs(
        self, request: configs_request.DescribeConfigsRequest
    ) -> configs_response.DescribeConfigsResponse:
        """Describe topics; the broker itself has no configuration."""
        return configs_response.DescribeConfigsResponse(
            throttle_time=NO_THROTTLE, results=tuple(self._configs(one) for one in request.resources)
        )

    def _configs(
        self, wanted: configs_request.DescribeConfigsResource
    ) -> configs_response.DescribeConfigsResult:
        topic = self._topics.get(wanted.resource_name) if wanted.resource_type == _TOPIC_RESOURCE else None
        unknown = topic is None and wanted.resource_type == _TOPIC_RESOURCE
        configs = tuple(
            configs_response.DescribeConfigsResourceResult(
                name=name,
                value=value,
                read_only=False,
                config_source=i8(_TOPIC_CONFIG_SOURCE),
                is_sensitive=False,
                synonyms=(),
            )
            for name, value in (topic.configs if topic else {}).items()
            if not wanted.configuration_keys or name in wanted.configuration_keys
        )
        return configs_response.DescribeConfigsResult(
            error_code=ErrorCode.unknown_topic_or_partition if unknown else ErrorCode.none,
            error_message=None,
            resource_type=wanted.resource_type,
            resource_name=wanted.resource_name,
            configs=configs,
        )


def _describe(name: str, topic: Topic | None) -> metadata_response.MetadataResponseTopic:
    me = (BrokerId(NODE_ID),)
    partitions = tuple(
        metadata_response.MetadataResponsePartition(
            error_code=ErrorCode.none,
            partition_index=i32(index),
            leader_id=BrokerId(NODE_ID),
            replica_nodes=me,
            isr_nodes=me,
        )
        for index in range(len(topic.logs) if topic else 0)
    )
    error = ErrorCode.none if topic else ErrorCode.unknown_topic_or_partition
    return metadata_response.MetadataResponseTopic(
        error_code=error, name=TopicName(name), partitions=partitions
    )
