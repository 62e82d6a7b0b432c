"""Each render is valid Kubernetes, by strict schemas of the oldest and newest version, and of custom resources."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from charts import Resource, Resources, name, values_files
from programs import CHART, run

VERSIONS = ("1.27", "1.33")
HERE = Path(__file__).parent
STRIMZI = json.loads((HERE / "definitions" / "strimzi.json").read_text())
CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "kafka.strimzi.io/")


def core_fault(resource: Resource, version: str) -> str | None:
    """Return why Kubernetes would reject a resource, or None. An unknown kind is a fault, although the validator's
    command only warns about it."""
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{name(resource)}: {error.message} at {list(error.path)}"
    except kubernetes_validate.SchemaNotFoundError:
        return f"{name(resource)}: {resource['apiVersion']} {resource['kind']} is unknown to Kubernetes {version}"
    return None


def custom_faults(resources: Resources) -> list[str]:
    """Return the faults of custom resources: of Strimzi's by our own definitions (no package has any), of the others by
    their authors' definitions."""
    strimzi = [one for one in resources if one["apiVersion"].startswith("kafka.strimzi.io/")]
    others = [one for one in resources if one not in strimzi]
    faults = [fault for one in strimzi if (fault := strimzi_fault(one))]
    node = ["node", str(HERE / "custom_resources.mjs"), str(Path(sys.executable).parents[1])]
    done = subprocess.run(node, input=json.dumps(others), check=True, capture_output=True, text=True)
    return faults + [f"{name(others[int(at)])}: {fault}" for at, fault in json.loads(done.stdout).items()]


def strimzi_fault(resource: Resource) -> str | None:
    kind = f"{resource['apiVersion']} {resource['kind']}"
    if kind not in STRIMZI:
        return f"{name(resource)}: {kind} is unknown"
    try:
        jsonschema.validate(resource, STRIMZI[kind])
    except jsonschema.ValidationError as error:
        return f"{name(resource)}: {error.message} at {list(error.path)}"
    return None


@pytest.mark.parametrize("values", values_files(), ids=lambda path: path.name)
def test_helm_lints_the_chart_with(values: Path):
    said = run("helm", "lint", "--strict", CHART, "--values", values)
    assert "[WARNING]" not in said


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_of_kubernetes_itself_is_valid(renders: dict[str, Resources], version: str):
    # most resources are the same in many renders, and validating one takes 20 ms
    different = {json.dumps(resource): resource for resources in renders.values() for resource in resources}
    core = [one for one in different.values() if not one["apiVersion"].startswith(CUSTOM)]
    assert len(core) > 100
    assert not [fault for resource in core if (fault := core_fault(resource, version))]


def test_every_custom_resource_is_valid(renders: dict[str, Resources]):
    custom = [
        resource
        for resources in renders.values()
        for resource in resources
        if resource["apiVersion"].startswith(CUSTOM)
    ]
    assert {resource["kind"] for resource in custom} >= {
        "ScaledObject",
        "ServiceMonitor",
        "AlertmanagerConfig",
        "Kafka",
        "KafkaNodePool",
        "KafkaTopic",
    }
    assert not custom_faults(custom)


def test_the_validators_refuse_what_is_wrong():
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "imagee": "b"}]},
    }
    assert "imagee" in str(core_fault(pod, VERSIONS[0]))
    unknown = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}}
    assert "is unknown" in str(core_fault(unknown, VERSIONS[0]))
    scaled = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "a"}, "spec": {}}
    kafka = {"apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "metadata": {"name": "a"}, "spec": {}}
    bridge = {"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaBridge", "metadata": {"name": "a"}}
    assert len(custom_faults([scaled, kafka, bridge, unknown])) == 4


def test_no_two_resources_of_a_render_have_one_name(renders: dict[str, Resources]):
    for resources in renders.values():
        names = [(one["apiVersion"], name(one), one["metadata"].get("namespace")) for one in resources]
        assert len(names) == len(set(names))


def test_the_values_files_are_named_and_explained():
    for values in values_files():
        assert values.read_text().startswith("# ")
        assert isinstance(yaml.safe_load(values.read_text()), dict)
