"""The servers of deploy/compose.yaml and the simulated exchange as manifests, for `make check-cluster`.

Each is one pod without persistent storage. NATS comes with the chart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compose_file import Service, filled_in, services_of

Manifest = dict[str, Any]
PORTS = {"kafka": 9092, "redis": 6379, "timescaledb": 5432, "exchange": 9098}
IDS = {"redis": 999, "postgres": 998}
"""User name in an image -> its number, because Kubernetes accepts only numbers."""


def servers_of(other: Path | None = None) -> dict[str, Service]:
    """Return Compose's services. other: a Compose file whose keys replace theirs, as Compose merges files."""
    services = services_of() | services_of("compose.simulated.yaml")
    replaced = services_of(other.resolve()) if other else {}
    return {name: service | replaced.get(name, {}) for name, service in services.items()}


def manifests(
    namespace: str, image: str, secrets: Mapping[str, str], other: Path | None = None
) -> list[Manifest]:
    """Return a Deployment and a Service for each. image: the screener's. secrets: values of Compose's variables. other:
    see `servers_of`."""
    services = servers_of(other)
    found: list[Manifest] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
    for name, port in PORTS.items():
        service = services[name] | ({"image": image} if name == "exchange" else {})
        found += [
            _deployment(namespace, name, port, service, secrets),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
            },
        ]
    return found


def _deployment(
    namespace: str, name: str, port: int, service: Service, secrets: Mapping[str, str]
) -> Manifest:
    container: Manifest = {
        "name": name,
        "image": service["image"],
        "env": list(_environment(namespace, service, secrets)),
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 2},
        "resources": {"limits": {"memory": service["mem_limit"].replace("g", "Gi").replace("m", "Mi")}},
    }
    if "command" in service:
        # the command in Compose corresponds to a container's arguments in Kubernetes
        container["args"] = [part.replace("$$", "$") for part in service["command"]]
    if "working_dir" in service:
        container["workingDir"] = service["working_dir"]
    if service.get("user") in IDS:
        container["securityContext"] = {"runAsUser": IDS[service["user"]]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                # Kafka would read variables named after Services as its own settings
                "spec": {"enableServiceLinks": False, "containers": [container]},
            },
        },
    }


def _environment(namespace: str, service: Service, secrets: Mapping[str, str]) -> Iterator[Manifest]:
    for variable, value in service.get("environment", {}).items():
        text = filled_in(str(value), secrets)
        if variable == "KAFKA_ADVERTISED_LISTENERS":
            text = text.replace("kafka:", f"kafka.{namespace}:")
        yield {"name": variable, "value": text}
