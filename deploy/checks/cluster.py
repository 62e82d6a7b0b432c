"""Installs the chart on the cluster of the current context and disturbs it: `make check-cluster IMAGE=NAME:TAG`.

The nodes must have the image and those of Compose's servers, or be able to pull them; WITH=FILE, a Compose file, names
other images of servers (checks/substitutes). In its own namespaces it does
an install, `helm test`, an upgrade, a rollback, a deletion of each pod, and a drain of a node where there are several.
It fails where something does not become ready again, a stored alert or minute is gone, or no new one follows.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_servers import manifests, servers_of
from troubles import INCOMPLETE, PASSWORDS, eventually

CHART = Path(__file__).parents[1] / "helm" / "screener"
RELEASE = "screener-check"
"""No production release has this name: its pods could be on the node that is drained."""
READY_S = 300
READY = f"{READY_S}s"
OF_THE_RELEASE = f"app.kubernetes.io/instance={RELEASE}"


@dataclass(frozen=True, slots=True)
class Stored:
    alerts: frozenset[str]
    minutes: int
    newest_s: float
    """Open time of the newest minute, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Cluster:
    namespace: str
    servers: str

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl and return its stdout. Ends this program when it fails."""
        return said("kubectl", "--namespace", self.namespace, *arguments, given=given)

    def helm(self, *arguments: str) -> None:
        print(said("helm", "--namespace", self.namespace, *arguments), flush=True)

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        return list(json.loads(self.kubectl("get", *arguments, "--output", "json"))["items"])

    def sql(self, statement: str) -> str:
        # by TCP: images put the socket in different folders
        psql = ("psql", "--host=127.0.0.1", "--username=screener", "--dbname=screener", "-tAc", statement)
        with_password = ("sh", "-c", 'PGPASSWORD=$POSTGRES_PASSWORD exec "$@"', "sh")
        inside = ("kubectl", "--namespace", self.servers, "exec", "deployment/timescaledb", "--")
        return said(*inside, *with_password, *psql)

    def stored(self) -> Stored:
        alerts = self.sql("SELECT id FROM alert_history").split()
        minutes, newest = self.sql(
            "SELECT count(*), coalesce(extract(epoch FROM max(time)), 0) FROM candles_1m"
        ).split("|")
        return Stored(frozenset(alerts), int(minutes), float(newest))

    def wait_ready(self) -> None:
        """Wait until each workload has its newest pods, and all have as many ready ones as they want at the same time:
        the end of one pod can make others not ready, as that of NATS does with bridges."""
        wanted = Counter[str]()
        for kind in ("deployment", "statefulset"):
            for one in self.items(kind, "--selector", OF_THE_RELEASE):
                wanted[component(one)] += one["spec"]["replicas"]
                self.kubectl("rollout", "status", f"{kind}/{one['metadata']['name']}", "--timeout", READY)
        eventually(f"ready pods: {dict(wanted)}", lambda: self.ready() == wanted, READY_S)

    def ready(self) -> Counter[str]:
        pods = self.items("pods", "--selector", OF_THE_RELEASE)
        return Counter(component(pod) for pod in pods if is_ready(pod))


def component(one: dict[str, Any]) -> str:
    return str(one["metadata"]["labels"]["app.kubernetes.io/component"])


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True"


def said(*command: str, given: str | None = None) -> str:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, input=given)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}")
    return done.stdout.strip()


def values(servers: str, image: str, given: dict[str, str], other: Path | None = None) -> list[str]:
    """Return arguments for helm: a small installation with the given servers and the simulated exchange. other: the
    Compose file that names another image of NATS."""
    repository, _, tag = image.rpartition(":")
    exchange = f"exchange.{servers}:9098"
    settings = {
        "image.repository": repository,
        "image.tag": tag,
        "image.digest": "",
        "nats.image.digest": "",
        "settings.kafka_url": f"kafka.{servers}:9092",
        "settings.exchange_rest_url": f"http://{exchange}",
        "settings.exchange_ws_url": f"ws://{exchange}/market/stream",
        "secrets.existingSecret": "",
        "secrets.values.redis_url": f"redis://:{given['REDIS_PASSWORD']}@redis.{servers}:6379/0",
        "secrets.values.postgres_url": f"postgresql://screener:{given['POSTGRES_PASSWORD']}@timescaledb.{servers}:5432/screener",
        "secrets.values.jwt_secret": given["JWT_SECRET"],
    }
    if other:
        nats, _, nats_tag = servers_of(other)["nats"]["image"].rpartition(":")
        settings |= {"nats.image.registry": "", "nats.image.repository": nats, "nats.image.tag": nats_tag}
    # here the exchange is a pod, with a private address
    open_to_pods = {"networkPolicy.notPublic": "[]", "networkPolicy.publicPorts": "[443,9098]"}
    arguments = ["--values", str(CHART / "ci" / "small-values.yaml")]
    for name, value in settings.items():
        arguments += ["--set-string", f"{name}={value}"]
    for name, value in open_to_pods.items():
        arguments += ["--set-json", f"{name}={value}"]
    return arguments


@contextmanager
def servers_running(image: str, given: dict[str, str], other: Path | None) -> Iterator[Cluster]:
    number = os.getpid()
    cluster = Cluster(f"screener-check-{number}", f"screener-check-servers-{number}")
    try:
        objects = {
            "apiVersion": "v1",
            "kind": "List",
            "items": manifests(cluster.servers, image, given, other),
        }
        # without a namespace in the command: kubectl refuses objects of another one
        said("kubectl", "apply", "--filename", "-", given=json.dumps(objects))
        said("kubectl", "create", "namespace", cluster.namespace)
        label = "pod-security.kubernetes.io/enforce=restricted"
        said("kubectl", "label", "namespace", cluster.namespace, label)
        said(
            "kubectl", "--namespace", cluster.servers, "wait", "deployment", "--all", "--for=condition=Available",
            f"--timeout={READY}",
        )  # fmt: skip
        yield cluster
    except BaseException:
        for namespace in (cluster.servers, cluster.namespace):
            show_troubles(namespace)
        raise
    finally:
        for namespace in (cluster.namespace, cluster.servers):
            said("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def show_troubles(namespace: str) -> None:
    """Print what a person needs to see why pods are not ready. A command that fails must not hide the first failure."""
    kubectl = ("kubectl", "--namespace", namespace)
    subprocess.run([*kubectl, "get", "pods", "--output", "wide"], check=False, stdout=sys.stderr)
    subprocess.run([*kubectl, "get", "events", "--sort-by", ".lastTimestamp"], check=False, stdout=sys.stderr)
    listed = subprocess.run(
        [*kubectl, "get", "pods", "--output", "json"], check=False, stdout=subprocess.PIPE
    )
    for pod in json.loads(listed.stdout or '{"items": []}')["items"]:
        if not is_ready(pod):
            log = ("logs", "--all-containers", "--prefix", "--tail", "30", pod["metadata"]["name"])
            subprocess.run([*kubectl, *log], check=False, stdout=sys.stderr)


def require_nothing_lost(cluster: Cluster, trouble: str, make: Callable[[], object]) -> None:
    before, began_s = cluster.stored(), time.time()
    make()
    cluster.wait_ready()
    ready_s = time.time() - began_s
    eventually(f"a minute after {trouble}", lambda: cluster.stored().newest_s > began_s, 300)
    eventually(f"an alert after {trouble}", lambda: cluster.stored().alerts > before.alerts, 300)
    eventually(f"every minute after {trouble}", lambda: cluster.sql(INCOMPLETE) == "0", 300)
    after = cluster.stored()
    if after.minutes < before.minutes:
        sys.exit(f"{before.minutes} minutes were stored before {trouble}, {after.minutes} after it")
    print(
        f"{trouble}: all ready after {ready_s:.0f} s, no alert and no minute is missing;"
        f" alerts: {len(before.alerts)}, now {len(after.alerts)}; minutes: {before.minutes}, now {after.minutes}",
        flush=True,
    )


def end_each_pod(cluster: Cluster) -> None:
    for pod in cluster.items(
        "pods", "--selector", OF_THE_RELEASE, "--field-selector", "status.phase=Running"
    ):
        # one of a job may have ended meanwhile
        at_once = ("--grace-period=0", "--force", "--ignore-not-found")
        cluster.kubectl("delete", "pod", pod["metadata"]["name"], *at_once)
        cluster.wait_ready()


def drain(cluster: Cluster) -> None:
    """Drain a node with pods of the release, but not one with NATS: in many clusters its data cannot leave the node."""
    pods = cluster.items("pods", "--selector", OF_THE_RELEASE, "--field-selector", "status.phase=Running")
    with_nats = {pod["spec"]["nodeName"] for pod in pods if "nats" in pod["metadata"]["name"]}
    nodes = {pod["spec"]["nodeName"] for pod in pods} - with_nats
    if not nodes:
        print("no node could be drained: one has everything", flush=True)
        return
    node = min(nodes)
    try:
        selector = f"--pod-selector={OF_THE_RELEASE}"
        cluster.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", selector, f"--timeout={READY}"
        )
        cluster.wait_ready()
    finally:
        cluster.kubectl("uncordon", node)


def main() -> None:
    image = os.environ.get("IMAGE") or sys.exit(
        "IMAGE=NAME:TAG: the image that the cluster's nodes have or can pull"
    )
    for program in ("kubectl", "helm"):
        if not shutil.which(program):
            sys.exit(f"{program} not found: install it and put it on the PATH")
    other = Path(os.environ["WITH"]) if os.environ.get("WITH") else None
    given = {name: secrets.token_hex(24) for name in PASSWORDS}
    with servers_running(image, given, other) as cluster:
        chosen = values(cluster.servers, image, given, other)
        wait = ("--wait", "--timeout", READY)
        began_s = time.monotonic()
        cluster.helm("install", RELEASE, str(CHART), *chosen, *wait)
        print(f"installed and ready after {time.monotonic() - began_s:.0f} s", flush=True)
        eventually("alerts", lambda: cluster.stored().alerts, 300)
        cluster.helm("test", RELEASE)
        again = ("--set-string", "common.podAnnotations.check=again")
        troubles: dict[str, Callable[[], object]] = {
            "an upgrade": lambda: cluster.helm("upgrade", RELEASE, str(CHART), *chosen, *again, *wait),
            "a rollback": lambda: cluster.helm("rollback", RELEASE, "1", *wait),
            "an end of each pod": lambda: end_each_pod(cluster),
            "a drain of a node": lambda: drain(cluster),
        }
        for trouble, make in troubles.items():
            require_nothing_lost(cluster, trouble, make)
    print("the chart is sound on this cluster")


if __name__ == "__main__":
    main()
