"""Generates `deploy/kubernetes/screener.yaml`: the chart as plain manifests, for `kubectl apply -f` without Helm.

`python deploy/generators/manifests.py` writes it with the helm of this virtual environment; `make check-deploy` fails
if the file is out of date. A second apply with another image cannot change a Job, so there is no Job: the sinks migrate
the database before they start.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parents[1]
TARGET: Final = DEPLOY / "kubernetes" / "screener.yaml"
NAMESPACE: Final = "screener"
_VALUES: Final = ("settings.kafka_url=kafka:9092", "secrets.existingSecret=screener-servers")
_HEADER: Final = """\
# Written by deploy/generators/manifests.py: the chart with its default values, without Helm.
#   kubectl create namespace screener
#   kubectl -n screener create secret generic screener-servers --from-literal=nats_url=nats://USER:PASSWORD@HOST:4222 \\
#     --from-literal=redis_url=redis://:PASSWORD@HOST:6379/0 --from-literal=postgres_url=postgresql://USER:PASSWORD@HOST:5432/screener
# Set SCREENER_KAFKA_URL in the ConfigMap and the image (`kubectl set image` or kustomize), then
#   kubectl apply -f deploy/kubernetes/screener.yaml
"""


def render() -> str:
    """Return the content of the file."""
    helm = [
        str(Path(sys.executable).parent / "helm"),
        "template",
        "screener",
        str(DEPLOY / "helm" / "screener"),
    ]
    given = [part for value in _VALUES for part in ("--set", value)]
    # only Helm runs hooks: the migration, and `helm test`
    command = [*helm, "--namespace", NAMESPACE, "--no-hooks", *given]
    # reason of the ignore: our own command line, no shell
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    resources = [one for one in yaml.safe_load_all(done.stdout) if one]
    for resource in resources:
        _without_helm(resource)
        if resource["kind"] == "Deployment" and resource["metadata"]["name"] == "screener-sinks":
            _migrate_first(resource["spec"]["template"]["spec"])
    return _HEADER + yaml.safe_dump_all(resources, sort_keys=False, width=110)


def _without_helm(resource: dict[str, Any]) -> None:
    """Remove Helm's labels: one that names the chart's version would change pods that are otherwise the same."""
    template = resource.get("spec", {}).get("template", {}).get("metadata", {})
    for metadata in (resource["metadata"], template):
        labels = metadata.get("labels", {})
        labels.pop("helm.sh/chart", None)
        if "app.kubernetes.io/managed-by" in labels:
            labels["app.kubernetes.io/managed-by"] = "kubectl"


def _migrate_first(pod: dict[str, Any]) -> None:
    (sinks,) = pod["containers"]
    kept = ("image", "imagePullPolicy", "securityContext", "envFrom", "env", "resources", "volumeMounts")
    pod["initContainers"] = [{"name": "migrate", "args": ["migrate"]} | {key: sinks[key] for key in kept}]


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(render())
    else:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(render())
