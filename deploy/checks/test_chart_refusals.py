"""Combinations that cannot work stop the render with a message, and values that nothing reads are rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import CHART, run

DEFAULT = CHART / "ci" / "default-values.yaml"

REFUSED = {
    "sidecar.hpa.enabled=true,sidecar.keda.enabled=true": "sidecar.hpa and sidecar.keda exclude each other",
    "calculator.keda.enabled=true,calculator.keda.maxReplicas=7": "maxReplicas 7 is more than settings.partitions 6",
    "calculator.hpa.enabled=true,calculator.hpa.maxReplicas=9": "maxReplicas 9 is more than settings.partitions 6",
    "collector.replicas=7": "collector.replicas 7 is more than settings.partitions 6",
    "settings.partitions=1": "collector.replicas 2 is more than settings.partitions 1",
    "alerts.keda.enabled=true,alerts.keda.minReplicas=5,alerts.keda.maxReplicas=4": "minReplicas 5 is more than",
    "feed.replicas=2": "feed.replicas is 2",
    "feed.hpa.enabled=true": "feed cannot be scaled",
    "bridge.keda.enabled=true": "bridge.keda scales by Kafka lag",
    "settings.kafka_url=": "settings.kafka_url is empty",
    "strimzi.enabled=true": "settings.kafka_url and strimzi.enabled exclude each other",
    "settings.kafka_security=sasl_ssl": "set settings.kafka_username, and the secret kafka_password",
    "strimzi.enabled=true,settings.kafka_url=,settings.kafka_security=ssl": "strimzi.authentication decides",
    "strimzi.enabled=true,settings.kafka_url=,strimzi.replicas=1": "replication_factor 3 is more than strimzi.replicas",
    "secrets.existingSecret=": "nothing gives postgres_url",
    "secrets.existingKeys={redis_url,postgres_url}": "nothing gives nats_url",
    "secrets.values.redis_url=a,secrets.fromSecrets.redis_url.name=b,secrets.fromSecrets.redis_url.key=c": "keep one",
    "ingress.enabled=true": "ingress.enabled needs ingress.hosts",
    "ingress.enabled=true,ingress.hosts={a.example},sidecar.enabled=false": "sidecar.enabled is false",
    "monitoring.alertmanager.enabled=true": "it would send alerts nowhere",
    "exporters.nats.enabled=true": "exporters.nats needs exporters.nats.urls",
    "exporters.redis.enabled=true": "exporters.redis needs exporters.redis.address",
    "exporters.postgres.enabled=true,exporters.postgres.address=db:5432/a": "exporters.postgres.existingSecret",
    "exporters.kafka.enabled=true,settings.kafka_security=ssl": "run an exporter of your own as the job kafka",
}

UNKNOWN_OR_WRONG = {
    "settings.partitons=3": "partitons",
    "settings.partitions=0": "partitions",
    "settings.partitions=many": "partitions",
    "settings.log_format=xml": "log_format",
    "settings.postgres_url=postgresql://here": "postgres_url",
    "secrets.values.exchange=binance": "exchange",
    "calculater.replicas=2": "calculater",
    "calculator.replica=2": "replica",
    "calculator.keda.lag=2": "lag",
    "image.digest=latest": "digest",
    "nats.replicas=2": "replicas",
    "podSecurity.runAsUser=0": "runAsUser",
    "service.type=Public": "type",
}


@pytest.mark.parametrize(("setting", "sentence"), REFUSED.items())
def test_what_cannot_work_is_refused_with_a_sentence(setting: str, sentence: str):
    said = run("helm", "template", "rel", CHART, "--values", DEFAULT, "--set", setting, fails=True)
    assert "cannot be rendered as it is set up" in said
    assert sentence in said


@pytest.mark.parametrize(("setting", "word"), UNKNOWN_OR_WRONG.items())
def test_values_that_the_schema_does_not_know_are_refused(setting: str, word: str):
    said = run("helm", "template", "rel", CHART, "--values", DEFAULT, "--set", setting, fails=True)
    assert "schema" in said
    assert word in said


def test_all_faults_are_named_at_once():
    said = run("helm", "template", "rel", CHART, fails=True)
    assert all(word in said for word in ("nats_url", "redis_url", "postgres_url", "settings.kafka_url"))


def test_a_fault_in_a_template_ends_the_lint(chart_copy: Path):
    (chart_copy / "templates" / "broken.yaml").write_text("{{ .Values.nowhere.at.all }}\n")
    run("helm", "lint", "--strict", chart_copy, "--values", DEFAULT, fails=True)
