"""The resources that `make check-cluster` applies are valid; the check itself needs a cluster."""

from __future__ import annotations

from charts import ROLES, component, load, of_kind
from cluster import values
from cluster_servers import PORTS, manifests
from programs import CHART, run
from test_chart_schemas import VERSIONS, core_fault
from troubles import PASSWORDS

GIVEN = dict.fromkeys(PASSWORDS, "a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6")


def test_the_servers_are_valid_in_kubernetes():
    made = manifests("servers", "screener:check", GIVEN)
    assert {one["metadata"]["name"] for one in of_kind(made, "Deployment")} == set(PORTS)
    assert not [fault for one in made for version in VERSIONS if (fault := core_fault(one, version))]
    assert "${" not in str(made)


def test_the_chart_takes_the_values_and_starts_every_role():
    rendered = run("helm", "template", "screener", CHART, *values("servers", "screener:check", GIVEN))
    workloads = of_kind(load(rendered), "Deployment", "StatefulSet")
    assert {component(one) for one in workloads} == {*ROLES, "nats"}
    images = {one["spec"]["template"]["spec"]["containers"][0]["image"] for one in workloads}
    assert "screener:check" in images
    assert not [image for image in images if "sha256" in image]
