"""The resources that `make check-cluster` applies are valid; the check itself needs a cluster."""

from __future__ import annotations

from pathlib import Path

from charts import ROLES, Resources, component, load, of_kind
from cluster import values
from cluster_servers import PORTS, manifests, servers_of
from programs import CHART, run
from test_chart_schemas import VERSIONS, core_fault
from troubles import PASSWORDS

GIVEN = dict.fromkeys(PASSWORDS, "a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6")
SUBSTITUTES = Path(__file__).parent / "substitutes" / "compose.yaml"


def _core_faults(made: Resources) -> list[str]:
    return [fault for one in made for version in VERSIONS if (fault := core_fault(one, version))]


def test_the_servers_are_valid_in_kubernetes():
    made = manifests("servers", "screener:check", GIVEN)
    assert {one["metadata"]["name"] for one in of_kind(made, "Deployment")} == set(PORTS)
    assert not _core_faults(made)
    assert "${" not in str(made)


def test_the_chart_takes_the_values_and_starts_every_role():
    rendered = run("helm", "template", "screener", CHART, *values("servers", "screener:check", GIVEN))
    workloads = of_kind(load(rendered), "Deployment", "StatefulSet")
    assert {component(one) for one in workloads} == {*ROLES, "nats"}
    images = {one["spec"]["template"]["spec"]["containers"][0]["image"] for one in workloads}
    assert "screener:check" in images
    assert not [image for image in images if "sha256" in image]


def test_another_compose_file_replaces_images_and_commands_of_the_servers():
    made = manifests("servers", "screener:check", GIVEN, SUBSTITUTES)
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0]
        for one in of_kind(made, "Deployment")
    }
    substitute = servers_of(SUBSTITUTES)["kafka"]["image"]
    assert {name: pod["image"] for name, pod in pods.items()} == dict.fromkeys(PORTS, substitute) | {
        "exchange": "screener:check"
    }
    assert not _core_faults(made)
    users = {
        name: pod["securityContext"]["runAsUser"] for name, pod in pods.items() if "securityContext" in pod
    }
    assert users == {"redis": 999, "timescaledb": 998}
    created = (SUBSTITUTES.parent / "Dockerfile").read_text()
    assert all(f"--uid {number}" in created for number in users.values())


def test_the_chart_takes_another_image_of_nats():
    given = values("servers", "screener:check", GIVEN, SUBSTITUTES)
    (nats,) = [
        one
        for one in of_kind(load(run("helm", "template", "screener", CHART, *given)), "StatefulSet")
        if component(one) == "nats"
    ]
    assert (
        nats["spec"]["template"]["spec"]["containers"][0]["image"] == servers_of(SUBSTITUTES)["nats"]["image"]
    )
