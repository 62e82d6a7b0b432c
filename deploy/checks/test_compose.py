"""deploy/compose.yaml fits the code, the files that it mounts, and Prometheus' targets; this needs no engine."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from charts import ROLES
from compose_file import VARIABLE, Service, filled_in, services_of
from programs import ROOT, run

from app.settings import PREFIX, Settings

DEPLOY = ROOT / "deploy"
SERVERS = ("kafka", "nats", "redis", "timescaledb")


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    return dict(compose["services"])


def env_example() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_role_and_server_is_there(services: dict[str, Service]):
    watching = {"prometheus", "alertmanager", "grafana"}
    assert {*ROLES, *SERVERS, *watching, "migrate"} <= set(services)


def test_every_service_is_restarted_checked_and_bounded(services: dict[str, Service]):
    for name, service in services.items():
        assert service["restart"].startswith("on-failure" if name == "migrate" else "unless-stopped"), name
        assert "-exporter" in name or name == "migrate" or service["healthcheck"]["test"], name
        assert service["mem_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_images_have_a_version(services: dict[str, Service]):
    for name, service in services.items():
        assert re.search(r":(\$\{|v?\d)", service["image"]), name


def test_roles_start_when_the_servers_are_well_and_the_schema_is_there(services: dict[str, Service]):
    for role in ROLES:
        waits = {name: wait["condition"] for name, wait in services[role]["depends_on"].items()}
        assert waits == dict.fromkeys(SERVERS, "service_healthy") | {
            "migrate": "service_completed_successfully"
        }
        assert services[role]["command"] == ["run", role]


def test_roles_have_no_rights_and_write_nowhere(services: dict[str, Service]):
    for role in (*ROLES, "migrate"):
        assert services[role]["read_only"] is True
        assert services[role]["cap_drop"] == ["ALL"]


def test_no_password_has_a_default_and_each_is_explained():
    text = (DEPLOY / "compose.yaml").read_text()
    asked = {match[1]: match[2] or "" for match in VARIABLE.finditer(text)}
    channels = {"SLACK_API_URL", "PAGERDUTY_ROUTING_KEY", "DEAD_MAN_URL"}
    secrets = {name for name in asked if re.search("PASSWORD|SECRET|KEY", name)} - channels
    assert secrets == {
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "NATS_PASSWORD",
        "GRAFANA_PASSWORD",
        "JWT_SECRET",
    }
    assert all(asked[name].startswith(":?") for name in secrets)
    # channels of Alertmanager: off without a value
    assert {asked[name] for name in channels} == {":-"}
    assert set(env_example()) == secrets | channels
    assert not any(env_example().values())


def test_a_change_of_a_channel_of_alertmanager_replaces_its_container(services: dict[str, Service]):
    """`up` compares variables, but not the contents of Compose's own secrets."""
    found = services["alertmanager"]
    assert set(found["environment"]) == {"SLACK_API_URL", "PAGERDUTY_ROUTING_KEY", "DEAD_MAN_URL"}
    assert not found.get("secrets")


def test_the_settings_of_every_role_are_accepted(services: dict[str, Service]):
    values = dict.fromkeys(env_example(), "a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6")
    for role in (*ROLES, "migrate"):
        environ = {key: filled_in(str(value), values) for key, value in services[role]["environment"].items()}
        settings = Settings.load({key: value for key, value in environ.items() if key.startswith(PREFIX)})
        hosts = re.findall(r"(?:@|^)([a-z]+):\d+", "\n".join(settings.servers_environ().values()), re.M)
        assert set(hosts) == set(SERVERS)


def test_the_simulated_exchange_is_where_the_feed_looks_for_it(services: dict[str, Service]):
    simulated = yaml.safe_load((DEPLOY / "compose.simulated.yaml").read_text())["services"]
    values = dict.fromkeys(env_example(), "a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6")
    environ = services["feed"]["environment"] | simulated["feed"]["environment"]
    environ |= simulated["exchange"]["environment"]
    ours = {key: filled_in(str(value), values) for key, value in environ.items() if key.startswith(PREFIX)}
    settings = Settings.load(ours)
    assert settings.exchange_rest_url == f"http://exchange:{settings.sim_exchange_port}"
    assert str(settings.exchange_ws_url).startswith(f"ws://exchange:{settings.sim_exchange_port}/")
    assert simulated["exchange"]["command"] == ["run", "exchange"]
    assert simulated["exchange"]["read_only"] is True


def test_the_interface_of_the_earlier_system_is_open_to_this_machine_only():
    sidecar = yaml.safe_load((DEPLOY / "compose.legacy.yaml").read_text())["services"]["sidecar"]
    settings = Settings.load(sidecar["environment"])
    assert settings.legacy_nats
    assert sidecar["ports"] == [f"127.0.0.1:{settings.legacy_port}:{settings.legacy_port}"]


def test_health_is_asked_at_the_port_of_the_role(services: dict[str, Service]):
    for role in ROLES:
        setting = f"{role}_port"
        if setting in Settings.model_fields:
            assert services[role]["environment"]["HEALTH_PORT"] == str(Settings.model_fields[setting].default)


def test_ports_are_open_to_this_machine_only(services: dict[str, Service]):
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert "127.0.0.1:3001:3000" in published


def test_what_is_mounted_exists(services: dict[str, Service], compose: dict[str, Any]):
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
            elif source != "/":  # the machine, whose disks are measured
                assert source in compose["volumes"]


def test_prometheus_scrapes_every_role_at_its_port():
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = {
        name: job["dns_sd_configs"][0]["port"]
        for job in config["scrape_configs"]
        for name in job.get("dns_sd_configs", [{"names": []}])[0]["names"]
    }
    assert set(targets) == set(ROLES)
    for role, port in targets.items():
        setting = "sidecar_metrics_port" if role == "sidecar" else f"{role}_port"
        if setting in Settings.model_fields:
            assert port == Settings.model_fields[setting].default


def test_prometheus_asks_an_exporter_of_each_server(services: dict[str, Service]):
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"][0].partition(":")[0]
        for job in config["scrape_configs"]
        if "static_configs" in job
    }
    for server in ("kafka", "nats", "redis", "postgres", "node"):
        assert targets[server] == f"{server}-exporter"
        assert services[targets[server]]["read_only"] is True
        assert services[targets[server]]["cap_drop"] == ["ALL"]


def test_health_checks_need_no_new_docker_and_no_jvm(services: dict[str, Service]):
    for name, service in services.items():
        assert "start_interval" not in service.get("healthcheck", {}), f"{name}: needs Docker 25"
    assert services["kafka"]["healthcheck"]["test"][1] == "bash"


def test_no_running_service_has_a_disabled_check(services: dict[str, Service]):
    """`up --wait` fails there: "has no healthcheck configured"."""
    for name, service in (services | services_of("compose.backup.yaml")).items():
        assert name == "migrate" or "disable" not in service.get("healthcheck", {}), name


def test_redis_is_not_root(services: dict[str, Service]):
    assert services["redis"]["user"] == "redis"


@pytest.mark.parametrize("password", ["1234567890", "1e5", "a1b2c3"])
def test_nats_reads_every_password_as_text(
    services: dict[str, Service], monkeypatch: pytest.MonkeyPatch, password: str
):
    given = filled_in(services["nats"]["environment"]["NATS_PASSWORD"], {"NATS_PASSWORD": password})
    monkeypatch.setenv("NATS_PASSWORD", given)
    run("nats-server", "-t", "--config", DEPLOY / "nats" / "nats.conf")


def test_each_server_that_keeps_something_is_backed_up_without_rights(services: dict[str, Service]):
    backups = services_of("compose.backup.yaml")
    assert set(backups) == {"backup-postgres", "backup-redis", "backup-nats"}
    for name, service in backups.items():
        assert service["command"] == [name.removeprefix("backup-")]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["restart"] == "unless-stopped"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
    # pg_dump refuses a server that is newer than itself
    assert backups["backup-postgres"]["image"] == services["timescaledb"]["image"]
    assert backups["backup-redis"]["image"] == services["redis"]["image"]
