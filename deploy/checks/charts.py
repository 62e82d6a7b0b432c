"""The chart's resources as Python objects, and helpers to find parts of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from programs import CHART
from schema import roles_of_the_chart

Resource = dict[str, Any]
Resources = list[Resource]
ROLES = tuple(roles_of_the_chart())
_WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob", "Pod")


def values_files() -> list[Path]:
    return sorted((CHART / "ci").glob("*-values.yaml"))


def load(text: str) -> Resources:
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(resources: Resources, *kinds: str) -> Resources:
    return [resource for resource in resources if resource["kind"] in kinds]


def name(resource: Resource) -> str:
    """Return `Kind/name`, for messages."""
    return f"{resource['kind']}/{resource['metadata']['name']}"


def component(resource: Resource) -> str:
    return str(resource["metadata"]["labels"]["app.kubernetes.io/component"])


def the(resources: Resources, kind: str, of: str) -> Resource:
    """Return the only resource of that kind and component; of several, the one named after the component."""
    found = [one for one in of_kind(resources, kind) if component(one) == of]
    if len(found) > 1:
        found = [one for one in found if one["metadata"]["name"].endswith(f"-{of}")]
    assert len(found) == 1, f"{len(found)} of {kind} {of}"
    return found[0]


def pods(resources: Resources) -> Iterator[tuple[Resource, Resource]]:
    """Yield (workload, pod template) of every workload that makes pods; a bare Pod is its own template."""
    for workload in of_kind(resources, *_WORKLOADS):
        if workload["kind"] == "Pod":
            yield workload, workload
        elif workload["kind"] == "CronJob":
            yield workload, workload["spec"]["jobTemplate"]["spec"]["template"]
        else:
            yield workload, workload["spec"]["template"]


def containers(resources: Resources) -> Iterator[tuple[Resource, Resource]]:
    for workload, pod in pods(resources):
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield workload, container


def is_hook(resource: Resource) -> bool:
    return "helm.sh/hook" in resource["metadata"].get("annotations", {})
