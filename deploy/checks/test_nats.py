"""The NATS configurations of Compose and of the chart, as the server itself reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from charts import Resources, component, of_kind
from programs import ROOT, run


def configuration(resources: Resources) -> str:
    (config,) = [one for one in of_kind(resources, "ConfigMap") if component(one) == "nats"]
    return str(config["data"]["nats.conf"])


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for configurations, in an environment with the containers' variables."""
    monkeypatch.setenv("NATS_PASSWORD", "a1b2c3")
    monkeypatch.setenv("SERVER_NAME", "nats-0")
    (tmp_path / "auth").mkdir()
    (tmp_path / "auth" / "nats.conf").write_text("authorization { user: screener, password: a1b2c3 }\n")
    return tmp_path


def test_the_server_accepts_the_configuration_of_compose(checked: Path):
    run("nats-server", "-t", "--config", ROOT / "deploy" / "nats" / "nats.conf")


@pytest.mark.parametrize("values", ["nats", "nats-alone"])
def test_the_server_accepts_the_configuration_of_the_chart(
    checked: Path, renders: dict[str, Resources], values: str
):
    file = checked / "nats.conf"
    file.write_text(configuration(renders[values]))
    run("nats-server", "-t", "--config", file)
    assert "sync_interval: always" in file.read_text()


def test_a_cluster_names_each_of_its_servers(renders: dict[str, Resources]):
    text = configuration(renders["nats"])
    for number in range(3):
        assert f"nats://rel-screener-nats-{number}.rel-screener-nats-peers:6222" in text
    assert "cluster" not in configuration(renders["nats-alone"])


@pytest.mark.parametrize(("values", "copies"), [("nats", "3"), ("nats-alone", "1")])
def test_the_stream_has_a_copy_on_every_server(renders: dict[str, Resources], values: str, copies: str):
    (settings,) = [one for one in of_kind(renders[values], "ConfigMap") if component(one) == "config"]
    (servers,) = [one for one in of_kind(renders[values], "StatefulSet") if component(one) == "nats"]
    assert str(servers["spec"]["replicas"]) == settings["data"]["SCREENER_NATS_REPLICAS"] == copies


def test_a_fault_in_the_configuration_is_refused(checked: Path):
    (checked / "broken.conf").write_text("jetstream { sync_interval: sometimes }\n")
    run("nats-server", "-t", "--config", checked / "broken.conf", fails=True)
