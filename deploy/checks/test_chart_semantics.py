"""Checks that no schema can make: parts of a render must fit each other, and the code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import ROLES, Resource, Resources, component, containers, is_hook, load, name, of_kind, pods, the
from programs import CHART, ROOT, run

from app.settings import PREFIX, Settings

SELECTOR_LABELS = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
STAGES = ("collector", "calculator", "alerts")


def selected(selector: dict[str, str], resources: Resources) -> list[Resource]:
    """Return the pod templates that a selector matches."""
    return [
        pod for _, pod in pods(resources) if selector.items() <= pod["metadata"].get("labels", {}).items()
    ]


def environment(container: Resource, resources: Resources) -> dict[str, str]:
    """Return the variables of a container: those of its config map, then its own."""
    maps = {
        one["metadata"]["name"]: one["data"]
        for one in of_kind(resources, "ConfigMap")
        if not one["metadata"]["name"].startswith("dashboard")
    }
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    return found | {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}


def test_every_role_runs_by_default_with_its_command_and_ports(renders: dict[str, Resources]):
    workloads = of_kind(renders["default"], "Deployment", "StatefulSet")
    assert {component(one) for one in workloads} == set(ROLES)
    for workload in workloads:
        role = component(workload)
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["run", role]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        setting = "sidecar_metrics_port" if role == "sidecar" else f"{role}_port"
        if setting in Settings.model_fields:
            assert ports["metrics"] == Settings.model_fields[setting].default
        assert ports.get("http") == (
            Settings.model_fields["sidecar_port"].default if role == "sidecar" else None
        )


def test_stages_with_tables_are_stateful_sets_whose_service_exists(renders: dict[str, Resources]):
    for resources in renders.values():
        for workload in of_kind(resources, "StatefulSet"):
            services = {one["metadata"]["name"]: one for one in of_kind(resources, "Service")}
            service = services[workload["spec"]["serviceName"]]
            assert service["spec"]["clusterIP"] == "None"
    kinds = {component(one): one["kind"] for one in of_kind(renders["default"], "Deployment", "StatefulSet")}
    assert {role for role, kind in kinds.items() if kind == "StatefulSet"} == set(STAGES)


def test_selectors_match_their_own_pods_and_no_others(renders: dict[str, Resources]):
    for values, resources in renders.items():
        for workload in of_kind(resources, "Deployment", "StatefulSet"):
            selector = workload["spec"]["selector"]["matchLabels"]
            assert set(selector) == SELECTOR_LABELS
            assert selected(selector, resources) == [workload["spec"]["template"]], (
                f"{values}: {name(workload)}"
            )


def test_services_budgets_and_policies_select_pods_that_exist(renders: dict[str, Resources]):
    for resources in renders.values():
        for one in of_kind(resources, "Service"):
            assert selected(one["spec"]["selector"], resources), name(one)
        for one in of_kind(resources, "PodDisruptionBudget"):
            assert selected(one["spec"]["selector"]["matchLabels"], resources), name(one)
        for one in of_kind(resources, "NetworkPolicy"):
            assert selected(one["spec"]["podSelector"]["matchLabels"], resources), name(one)


def test_ports_and_probes_name_ports_of_the_container(renders: dict[str, Resources]):
    for resources in renders.values():
        for workload, container in containers(resources):
            named = {port["name"] for port in container.get("ports", [])}
            probes = [probe for key, probe in container.items() if key.endswith("Probe")]
            assert {probe["httpGet"]["port"] for probe in probes} <= named, name(workload)
        for service in of_kind(resources, "Service"):
            (pod, *_) = selected(service["spec"]["selector"], resources)
            named = {port["name"] for one in pod["spec"]["containers"] for port in one["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_the_three_probes_of_every_long_lived_container_differ(renders: dict[str, Resources]):
    for resources in renders.values():
        for workload, container in containers(resources):
            if workload["kind"] in ("Deployment", "StatefulSet"):
                probes = [container[key] for key in ("startupProbe", "readinessProbe", "livenessProbe")]
                assert all(probes[a] != probes[b] for a, b in ((0, 1), (1, 2), (0, 2))), name(workload)


def test_no_secret_is_a_variable_and_each_is_a_file_that_is_mounted(renders: dict[str, Resources]):
    for resources in renders.values():
        for workload, pod in pods(resources):
            for container in pod["spec"]["containers"]:
                assert not [entry for entry in container.get("env", []) if "secretKeyRef" in str(entry)]
                assert not [source for source in container.get("envFrom", []) if "secretRef" in source]
                mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
                named = {
                    entry["value"] for entry in container.get("env", []) if entry["name"].endswith("_FILE")
                }
                if not {file for file in named if workload["kind"] != "CronJob"}:
                    continue
                (volume,) = [
                    one for one in pod["spec"]["volumes"] if one["name"] == mounts["/etc/screener/secrets"]
                ]
                files = {
                    f"/etc/screener/secrets/{item['path']}"
                    for source in volume["projected"]["sources"]
                    for item in source["secret"]["items"]
                }
                assert files == named, name(workload)


def test_secrets_and_maps_that_are_mounted_are_made_by_the_chart_or_named_by_the_user(
    renders: dict[str, Resources],
):
    # the last two are made by Strimzi's operator
    users = {"screener-servers", "timescale-app", "nats-users", "kafka-authority"}
    users |= {"rel-screener-kafka", "rel-screener-cluster-ca-cert"}
    for resources in renders.values():
        made = {name(one) for one in of_kind(resources, "Secret", "ConfigMap", "PersistentVolumeClaim")}
        for workload, pod in pods(resources):
            for volume in pod["spec"].get("volumes", []):
                sources = volume.get("projected", {}).get("sources", [volume])
                used = [
                    f"Secret/{one['secret']['name']}" for one in sources if "name" in one.get("secret", {})
                ]
                if "secret" in volume:
                    used = [f"Secret/{volume['secret']['secretName']}"]
                used += [f"ConfigMap/{one['configMap']['name']}" for one in sources if "configMap" in one]
                if "persistentVolumeClaim" in volume:
                    used.append(f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}")
                known = made | {f"Secret/{user}" for user in users} | {"PersistentVolumeClaim/backups"}
                assert set(used) <= known, name(workload)


def test_the_settings_of_every_pod_are_accepted_by_the_code(renders: dict[str, Resources], tmp_path: Path):
    secrets = {
        "nats_url": "nats://nats:4222",
        "redis_url": "redis://redis:6379/0",
        "postgres_url": "postgresql://a:b@timescale/screener",
        "jwt_secret": "x" * 32,
        "kafka_password": "y",
    }
    for setting, value in secrets.items():
        (tmp_path / setting).write_text(value)
    for values, resources in renders.items():
        for workload, container in containers(resources):
            environ = environment(container, resources)
            ours = {key: value for key, value in environ.items() if key.startswith(PREFIX)}
            if not ours:
                continue
            ours = {key: value.replace("/etc/screener/secrets", str(tmp_path)) for key, value in ours.items()}
            settings = Settings.load(ours)
            assert settings.kafka_url, f"{values}: {name(workload)}"
            if component(workload) != "migrate":
                assert settings.server_urls().kafka
                assert settings.kafka_security.startswith("sasl") == (settings.kafka_password is not None)
            assert settings.log_format == "json"
            assert settings.bind_host == "0.0.0.0"


def test_values_reach_the_settings(renders: dict[str, Resources]):
    (config,) = [one for one in of_kind(renders["ingress"], "ConfigMap") if component(one) == "config"]
    settings = Settings.load({key: value for key, value in config["data"].items() if key.startswith(PREFIX)})
    assert settings.allowed_origins == ("https://screener.example", "https://alerts.example")
    assert settings.partitions == 6


def test_changed_settings_and_secrets_replace_pods_and_other_labels_do_not(renders: dict[str, Resources]):
    def checksums(*arguments: str) -> dict[str, str]:
        values = CHART / "ci" / "inline-secrets-values.yaml"
        rendered = run("helm", "template", "rel", CHART, "--values", values, *arguments)
        found = re.findall(r"checksum/(config|secret): (\w+)", rendered)
        assert len(set(found)) == 2
        return dict(found)

    plain = checksums()
    settings = checksums("--set", "settings.partitions=7")
    secret = checksums("--set", "secrets.values.redis_url=redis://other:6379/0")
    label = checksums("--set", "commonLabels.team=other")
    assert (settings["config"] != plain["config"], settings["secret"] == plain["secret"]) == (True, True)
    assert (secret["config"] == plain["config"], secret["secret"] != plain["secret"]) == (True, True)
    assert label == plain


def test_pods_keep_to_restricted_security_and_have_no_token(renders: dict[str, Resources]):
    for resources in renders.values():
        for workload, pod in pods(resources):
            spec = pod["spec"]
            assert spec["automountServiceAccountToken"] is False, name(workload)
            assert spec["enableServiceLinks"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["runAsUser"] >= 10_000
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in spec["containers"]:
                context = container["securityContext"]
                assert context["readOnlyRootFilesystem"] is True
                assert context["allowPrivilegeEscalation"] is False
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert container["resources"]["limits"]["memory"]
                assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_autoscaled_roles_have_no_replicas_and_the_scaler_names_them(renders: dict[str, Resources]):
    for resources in renders.values():
        workloads = {
            (one["kind"], one["metadata"]["name"]): one
            for one in of_kind(resources, "Deployment", "StatefulSet")
        }
        scalers = of_kind(resources, "HorizontalPodAutoscaler", "ScaledObject")
        targets = [
            (one["spec"]["scaleTargetRef"]["kind"], one["spec"]["scaleTargetRef"]["name"]) for one in scalers
        ]
        assert len(targets) == len(set(targets))
        assert set(targets) <= set(workloads)
        for key, workload in workloads.items():
            assert ("replicas" in workload["spec"]) == (key not in targets)


def test_lag_is_watched_of_the_groups_that_the_code_uses(renders: dict[str, Resources]):
    stages = {f'"{stage}"' for stage in re.findall(r'stage="([\w-]+)"', read("app/sinks/tables.py"))}
    watched = {
        (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"])
        for one in of_kind(renders["workers-keda"], "ScaledObject")
        for trigger in one["spec"]["triggers"]
    }
    assert {group for group, _ in watched if group.startswith("sinks")} <= {
        stage.strip('"') for stage in stages
    }
    assert {("collector", "ingress"), ("calculator", "candles"), ("alerts", "metrics")} <= watched
    (named,) = of_kind(renders["names"], "ScaledObject")
    metadata = named["spec"]["triggers"][0]["metadata"]
    assert (metadata["consumerGroup"], metadata["topic"]) == ("blue.collector", "blue.ingress")
    assert all(isinstance(value, str) for value in metadata.values())


def test_topics_of_strimzi_are_those_that_the_code_would_make(renders: dict[str, Resources]):
    from app.wire.topics import Topics

    topics = {one["spec"]["topicName"]: one["spec"] for one in of_kind(renders["strimzi"], "KafkaTopic")}
    names = Topics.of(Settings.load({}, namespace="main").names())
    assert set(topics) == {
        names.ingress,
        names.candles,
        names.metrics,
        names.market,
        names.alerts,
        names.gaps,
        names.dead_letters,
    }
    for topic, spec in topics.items():
        single = (names.market, names.alerts, names.gaps, names.dead_letters)
        assert spec["partitions"] == (1 if topic in single else 12)
        assert spec["config"]["max.message.bytes"] == 16 * 1024 * 1024


def test_kafka_of_strimzi_is_reached_at_its_listener_as_its_user(renders: dict[str, Resources]):
    for values, port in (("strimzi", 9093), ("strimzi-plain", 9092)):
        resources = renders[values]
        (kafka,) = of_kind(resources, "Kafka")
        (listener,) = kafka["spec"]["kafka"]["listeners"]
        (config,) = [one for one in of_kind(resources, "ConfigMap") if component(one) == "config"]
        host = f"{kafka['metadata']['name']}-kafka-bootstrap.screener.svc"
        assert listener["port"] == port
        assert config["data"]["SCREENER_KAFKA_URL"] == f"{host}:{port}"
        for one in of_kind(resources, "KafkaTopic", "KafkaNodePool", "KafkaUser"):
            assert one["metadata"]["labels"]["strimzi.io/cluster"] == kafka["metadata"]["name"]
        policy = the(resources, "NetworkPolicy", "calculator")
        assert port in {one["port"] for rule in policy["spec"]["egress"] for one in rule["ports"]}
    (user,) = of_kind(renders["strimzi"], "KafkaUser")
    (config,) = [one for one in of_kind(renders["strimzi"], "ConfigMap") if component(one) == "config"]
    assert config["data"]["SCREENER_KAFKA_USERNAME"] == user["metadata"]["name"]
    assert {acl["resource"]["name"] for acl in user["spec"]["authorization"]["acls"]} == {"main."}


@pytest.mark.parametrize("values", ["kafka-secured", "strimzi"])
def test_the_scaler_knows_the_credentials_that_the_pods_have(renders: dict[str, Resources], values: str):
    resources = renders[values]
    (scaled,) = of_kind(resources, "ScaledObject")
    (authentication,) = of_kind(resources, "TriggerAuthentication")
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    assert (trigger["metadata"]["tls"], trigger["metadata"]["sasl"]) == ("enable", "scram_sha512")
    parameters = {one["parameter"] for one in authentication["spec"]["secretTargetRef"]}
    assert parameters == {"password", "ca"}
    (username,) = authentication["spec"]["env"]
    workload = the(resources, scaled["spec"]["scaleTargetRef"]["kind"], username["containerName"])
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert username["name"] in environment(container, resources)


def test_the_migration_and_backups_see_no_secret_but_that_of_their_server(renders: dict[str, Resources]):
    for resources in renders.values():
        for workload, pod in pods(resources):
            if component(workload).startswith(("migrate", "backup")):
                volumes = [one["projected"] for one in pod["spec"]["volumes"] if one["name"] == "secrets"]
                keys = [
                    item for one in volumes for source in one["sources"] for item in source["secret"]["items"]
                ]
                assert len(keys) <= 1, name(workload)


def test_pods_with_a_network_policy_may_reach_the_servers_they_need(renders: dict[str, Resources]):
    for role in ROLES:
        policy = the(renders["default"], "NetworkPolicy", role)
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])}
        assert {53, 9092} <= ports, role
        assert (443 in ports) == (role in ("feed", "sidecar", "webhooks")), role
        for rule in policy["spec"]["egress"]:
            for peer in rule.get("to", []):
                assert "10.0.0.0/8" in peer["ipBlock"]["except"]


def test_the_earlier_interface_is_reached_at_the_service_by_who_may_reach_the_sidecar(
    renders: dict[str, Resources],
):
    resources = renders["legacy"]
    (config,) = [one for one in of_kind(resources, "ConfigMap") if component(one) == "config"]
    assert config["data"]["SCREENER_LEGACY_NATS"] == "true"
    policy = the(resources, "NetworkPolicy", "sidecar")
    (allowed,) = [rule for rule in policy["spec"]["ingress"] if "legacy" in str(rule["ports"])]
    assert {port["port"] for port in allowed["ports"]} == {"http", "legacy"}
    assert {"podSelector": {"matchLabels": {"app": "gateway"}}} in allowed["from"]
    (service,) = [
        one
        for one in of_kind(resources, "Service")
        if component(one) == "sidecar" and one["spec"].get("clusterIP") != "None"
    ]
    ports = {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}
    assert ports["legacy"] == (8090, "legacy")
    (container,) = the(resources, "Deployment", "sidecar")["spec"]["template"]["spec"]["containers"]
    (port,) = [one["containerPort"] for one in container["ports"] if one["name"] == "legacy"]
    assert config["data"]["SCREENER_LEGACY_PORT"] == str(port)
    assert "legacy" not in str(the(renders["default"], "NetworkPolicy", "sidecar"))
    assert "legacy" not in str(the(renders["default"], "Deployment", "sidecar"))


def test_every_pod_has_a_network_policy(renders: dict[str, Resources]):
    for values, resources in renders.items():
        for workload, pod in pods(resources):
            labels = pod["metadata"]["labels"].items()
            policies = [
                one
                for one in of_kind(resources, "NetworkPolicy")
                if one["spec"]["podSelector"]["matchLabels"].items() <= labels
            ]
            assert len(policies) == 1, f"{values}: {name(workload)}"


def test_the_migration_runs_first_with_settings_that_exist_by_then(renders: dict[str, Resources]):
    for values, resources in renders.items():
        jobs = [one for one in of_kind(resources, "Job") if component(one) == "migrate"]
        assert len(jobs) == (0 if values == "api-only" else 1)
        for job in jobs:
            hooks = {
                name(one): weight(one) for one in resources if is_hook(one) and component(one) == "migrate"
            }
            spec = job["spec"]["template"]["spec"]
            needed = [
                f"ConfigMap/{source['configMapRef']['name']}" for source in spec["containers"][0]["envFrom"]
            ]
            made = {name(one) for one in of_kind(resources, "Secret")}
            needed += [
                f"Secret/{source['secret']['name']}"
                for volume in spec["volumes"]
                for source in volume.get("projected", {}).get("sources", [])
                if f"Secret/{source['secret']['name']}" in made
            ]
            assert all(hooks[need] < weight(job) for need in needed), values


def test_helm_prints_what_the_test_says(renders: dict[str, Resources]):
    for values, resources in renders.items():
        for job in of_kind(resources, "Job"):
            annotations = job["metadata"].get("annotations", {})
            if annotations.get("helm.sh/hook") == "test":
                assert annotations["helm.sh/hook-output-log-policy"] == "hook-succeeded,hook-failed", values


def weight(resource: Resource) -> int:
    return int(resource["metadata"]["annotations"].get("helm.sh/hook-weight", "0"))


def test_the_service_monitor_finds_the_metrics_of_every_role(renders: dict[str, Resources]):
    resources = renders["monitoring"]
    (monitor,) = of_kind(resources, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    found = [
        one for one in of_kind(resources, "Service") if wanted.items() <= one["metadata"]["labels"].items()
    ]
    jobs = {one["metadata"]["labels"].get(monitor["spec"]["jobLabel"]) for one in found}
    assert {job for job in jobs if job} == {f"screener-{role}" for role in ROLES}
    (expression,) = monitor["spec"]["selector"]["matchExpressions"]
    found = [one for one in found if expression["key"] in one["metadata"]["labels"]]
    assert monitor["spec"]["namespaceSelector"]["matchNames"] == ["screener"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert all(endpoint["port"] in {port["name"] for port in one["spec"]["ports"]} for one in found)


def test_exporters_are_scraped_as_the_jobs_of_the_rules_and_reach_their_servers_only(
    renders: dict[str, Resources],
):
    resources = renders["exporters"]
    config = yaml.safe_load(read("deploy/prometheus/prometheus.yml"))
    of_compose = {
        job["job_name"]: int(job["static_configs"][0]["targets"][0].partition(":")[2])
        for job in config["scrape_configs"]
        if job["job_name"] in ("kafka", "nats", "redis", "postgres")
    }
    services = [one for one in of_kind(resources, "Service") if component(one).startswith("exporter-")]
    (monitor,) = of_kind(resources, "ServiceMonitor")
    jobs = {
        one["metadata"]["labels"][monitor["spec"]["jobLabel"]]: one["spec"]["ports"][0]["port"]
        for one in services
    }
    assert jobs == of_compose
    ports = {
        server: {
            port["port"]
            for rule in the(resources, "NetworkPolicy", f"exporter-{server}")["spec"]["egress"]
            for port in rule["ports"]
        }
        for server in jobs
    }
    assert ports == {"kafka": {53, 9092}, "nats": {53, 8222}, "redis": {53, 6379}, "postgres": {53, 5432}}
    (monitored,) = [
        rule
        for rule in the(resources, "NetworkPolicy", "nats")["spec"]["ingress"]
        if rule["ports"][0]["port"] == "monitor"
    ]
    peer = {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "exporter-nats"}}}
    assert (
        peer["podSelector"]["matchLabels"].items()
        <= monitored["from"][-1]["podSelector"]["matchLabels"].items()
    )


def test_exporters_have_the_images_and_addresses_of_compose(renders: dict[str, Resources]):
    services = yaml.safe_load(read("deploy/compose.yaml"))["services"]
    values = yaml.safe_load(read("deploy/helm/screener/values.yaml"))["exporters"]
    for server in ("kafka", "nats", "redis", "postgres"):
        image = values[server]["image"]
        assert services[f"{server}-exporter"]["image"] == f"{image['repository']}:{image['tag']}"
    arguments = {
        component(one): one["spec"]["template"]["spec"]["containers"][0].get("args")
        for one in of_kind(renders["exporters"], "Deployment")
    }
    assert arguments["exporter-kafka"] == [
        "--kafka.server=kafka-0.kafka:9092",
        "--kafka.server=kafka-1.kafka:9092",
    ]
    assert arguments["exporter-nats"] == [
        "-varz",
        "-jsz=all",
        *(f"http://rel-screener-nats-{n}.rel-screener-nats-peers:8222" for n in range(3)),
    ]


def test_the_ingress_leads_to_the_sidecar_and_not_to_its_metrics(renders: dict[str, Resources]):
    resources = renders["ingress"]
    (ingress,) = of_kind(resources, "Ingress")
    services = {one["metadata"]["name"]: one for one in of_kind(resources, "Service")}
    hosts = [rule["host"] for rule in ingress["spec"]["rules"]]
    assert ingress["spec"]["tls"][0]["hosts"] == hosts
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            backend = services[path["backend"]["service"]["name"]]
            assert path["backend"]["service"]["port"]["name"] in {
                port["name"] for port in backend["spec"]["ports"]
            }
            assert path["path"] != "/" or path["pathType"] == "Exact"


def test_names_and_labels_of_the_user_are_everywhere(renders: dict[str, Resources]):
    for resource in renders["names"]:
        metadata: dict[str, Any] = resource["metadata"]
        assert metadata["namespace"] == "trading", name(resource)
        if metadata["name"] == "rel-more":
            continue
        assert metadata["labels"]["team"] == "markets", name(resource)
        assert metadata["annotations"]["contact"] == "markets", name(resource)
        assert metadata["name"].startswith("screener-blue"), name(resource)


def test_a_long_name_of_a_release_leaves_every_name_valid():
    release = "a-release-with-a-name-as-long-as-helm-allows-them-is"
    for values in ("backups", "workers-keda", "nats", "strimzi"):
        file = CHART / "ci" / f"{values}-values.yaml"
        for resource in load(run("helm", "template", release, CHART, "--values", file)):
            most = {"CronJob": 52, "ConfigMap": 253}.get(resource["kind"], 63)
            assert len(resource["metadata"]["name"]) <= most, name(resource)
            for key, value in resource["metadata"]["labels"].items():
                assert len(value) <= 63, f"{name(resource)} {key}"


def test_pods_have_time_to_drain_after_the_pause_for_load_balancers(renders: dict[str, Resources]):
    for workload in of_kind(renders["default"], "Deployment", "StatefulSet"):
        spec = workload["spec"]["template"]["spec"]
        pause = int(
            spec["containers"][0]
            .get("lifecycle", {})
            .get("preStop", {})
            .get("exec", {})
            .get("command", ["", "0"])[1]
        )
        assert spec["terminationGracePeriodSeconds"] >= pause + 20


@pytest.mark.parametrize(
    ("kind", "source"), [("rules", "prometheus/rules"), ("dashboards", "grafana/dashboards")]
)
def test_the_chart_takes_rules_and_dashboards_from_where_compose_does(kind: str, source: str):
    assert (CHART / "files" / kind).resolve() == ROOT / "deploy" / source


def test_every_rule_and_dashboard_of_the_repository_is_rendered(renders: dict[str, Resources]):
    groups = [
        group for one in of_kind(renders["monitoring"], "PrometheusRule") for group in one["spec"]["groups"]
    ]
    assert groups == [
        group
        for file in sorted((ROOT / "deploy/prometheus/rules").glob("*.yaml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    boards = {
        file: json.loads(text)
        for one in of_kind(renders["monitoring"], "ConfigMap")
        if "grafana_dashboard" in one["metadata"]["labels"]
        for file, text in one["data"].items()
    }
    assert boards == {
        file.name: json.loads(file.read_text())
        for file in (ROOT / "deploy/grafana/dashboards").glob("*.json")
    }


def read(path: str) -> str:
    return (ROOT / path).read_text()


def test_a_rollout_never_runs_two_feeds(renders: dict[str, Resources]):
    assert the(renders["default"], "Deployment", "feed")["spec"]["strategy"] == {"type": "Recreate"}


def test_traces_may_leave_every_pod(render: Callable[..., Resources]):
    for url, port in (("http://otel:4318/v1/traces", 4318), ("https://otel/v1/traces", 443)):
        resources = render(f"settings.trace_url={url}")
        for role in ROLES:
            rules = the(resources, "NetworkPolicy", role)["spec"]["egress"]
            assert {"port": port, "protocol": "TCP"} in [one for rule in rules for one in rule["ports"]]


def test_alerts_link_to_the_runbooks_where_they_are(render: Callable[..., Resources]):
    place = "https://wiki.test/screener"
    rules = of_kind(
        render(f"monitoring.prometheusRule.runbookBaseUrl={place}", values="monitoring"), "PrometheusRule"
    )
    urls = re.findall(r"'runbook_url': '([^']+)'", str(rules))
    assert urls
    assert all(url.startswith(f"{place}/Screener") for url in urls)


def test_the_claim_of_backups_is_mounted_at_once(renders: dict[str, Resources]):
    """A storage class that waits for its first consumer would leave the claim pending until the first night."""
    (claim,) = of_kind(renders["backups"], "PersistentVolumeClaim")
    mounted = [
        volume["persistentVolumeClaim"]["claimName"]
        for workload, pod in pods(renders["backups"])
        for volume in pod["spec"].get("volumes", [])
        if workload["kind"] == "Job" and not is_hook(workload) and "persistentVolumeClaim" in volume
    ]
    assert mounted == [claim["metadata"]["name"]]


def test_the_small_cluster_has_room_for_a_rollout(renders: dict[str, Resources]):
    """The cluster has 2 cores and 6 GiB, half of them for Kubernetes, a second pod of a role, and the migration."""
    cpu_m = memory_mi = 0
    for workload in of_kind(renders["small"], "Deployment", "StatefulSet"):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            asked = container["resources"]["requests"]
            assert workload["spec"]["replicas"] == 1
            cpu_m += int(asked["cpu"].removesuffix("m"))
            memory_mi += int(asked["memory"].removesuffix("Mi"))
    assert cpu_m <= 1_000
    assert memory_mi <= 3 * 1_024
