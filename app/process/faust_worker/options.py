"""The options of a worker, and the settings of Faust, each with its reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
from faust.transport.drivers.aiokafka import Transport
from faust.transport.producer import ProducerBuffer
from faust.types.auth import CredentialsT

from app.library_internals import snapshot_consumer
from app.settings import Settings
from app.settings.access import KafkaAccess, RedisAccess
from app.telemetry.log_output import LogFormat, LogLevel, configure_logging, log_handler
from app.wire.kafka import REQUEST_MAX_BYTES, client_options

# Faust stalls in a flush, with a warning each, above 100 buffered changelog writes: the parts of large snapshots.
ProducerBuffer.max_messages = 20_000
Transport.Consumer = snapshot_consumer()


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The settings that every worker takes, for any agents."""

    kafka: KafkaAccess
    redis: RedisAccess
    """For its signs of life."""
    data_dir: Path
    bind_host: str
    """Address of its health pages."""
    log_level: LogLevel
    log_format: LogFormat
    trace_url: str | None
    trace_ratio: float

    @classmethod
    def of(cls, settings: Settings) -> WorkerOptions:
        return cls(
            kafka=settings.kafka(),
            redis=settings.redis(),
            data_dir=settings.data_dir,
            bind_host=settings.bind_host,
            log_level=settings.log_level,
            log_format=settings.log_format,
            trace_url=settings.trace_url,
            trace_ratio=settings.trace_ratio,
        )


def faust_settings(identity: str, options: WorkerOptions) -> dict[str, Any]:
    kafka = options.kafka
    return {
        "broker": [f"kafka://{server}" for server in kafka.servers.split(",")],
        "broker_credentials": _credentials(kafka),
        "datadir": options.data_dir / "faust" / identity,
        "version": 1,
        "store": "memory://",
        "key_serializer": "raw",
        "value_serializer": "raw",
        "topic_partitions": kafka.partitions,
        "topic_replication_factor": kafka.replication_factor,
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "table_cleanup_interval": 60.0,
        "consumer_auto_offset_reset": "earliest",
        # small fetches (a larger record comes alone) give the three agents of one worker equal turns; with large
        # ones the records of the last stage waited seconds behind the first stage's
        "consumer_max_fetch_size": 1024 * 1024,
        # records are frames of up to four thousand rows: a deep buffer would only hold memory
        "stream_buffer_maxsize": 16,
        # a dead member holds its partitions for this long; the least that brokers allow
        "broker_session_timeout": 6.0,
        "broker_heartbeat_interval": 2.0,
        "broker_rebalance_timeout": 20.0,
        "broker_request_timeout": 30.0,
        "broker_commit_interval": 1.0,
        # committing by count blocks the loop that reads; the interval suffices
        "broker_commit_every": 1_000_000,
        "producer_linger": 0.0,
        "producer_max_batch_size": 1024 * 1024,
        "producer_max_request_size": REQUEST_MAX_BYTES,
        "producer_request_timeout": 30.0,
        "stream_wait_empty": True,
        "web_enabled": False,
        "logging_config": _logging_config(options.log_level, options.log_format),
    }


def _credentials(kafka: KafkaAccess) -> CredentialsT | None:
    """Return the credentials of app.wire.kafka, in Faust's terms."""
    access = client_options(kafka)
    tls = access.get("ssl_context")
    if "sasl_mechanism" in access:
        return faust.SASLCredentials(
            username=access["sasl_plain_username"],
            password=access["sasl_plain_password"],
            mechanism=access["sasl_mechanism"],
            ssl_context=tls,
        )
    return faust.SSLCredentials(context=tls) if tls else None


def _logging_config(level: LogLevel, log_format: LogFormat) -> dict[str, object]:
    """Return the logging configuration that gives the root logger our handler: Faust clears its handlers at start."""
    configure_logging(level, log_format)
    logging.getLogger("faust").setLevel(logging.WARNING)
    logging.getLogger("mode").setLevel(logging.WARNING)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"screener": {"()": log_handler, "log_format": log_format}},
        "root": {"level": level.upper(), "handlers": ["screener"]},
    }
