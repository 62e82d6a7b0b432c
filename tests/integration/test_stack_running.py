"""Commands find the servers that `screener up` runs in the same directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from app.cli.servers import settings_here
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.running import tell_urls, urls_of_running


def postgres_url() -> str | None:
    url = settings_here().postgres_url
    return url.get_secret_value() if url else None


def test_a_running_stack_is_found_by_its_directory_and_by_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "servers"
    assert urls_of_running(directory) == {}
    monkeypatch.setenv("SCREENER_DATA_DIR", str(directory))
    with EmbeddedStack.start(directory, ["redis", "nats"]) as stack:
        assert urls_of_running(directory) == stack.urls
        assert urls_of_running(tmp_path) == {}
        assert stat.S_IMODE((directory / "urls.json").stat().st_mode) == 0o600
        here = settings_here()
        assert here.redis_url is not None
        assert here.redis_url.get_secret_value() == stack.urls["redis"]
        assert here.postgres_url is None
        monkeypatch.setenv("SCREENER_REDIS_URL", "redis://elsewhere:6379/0")
        elsewhere = settings_here().redis_url
        assert elsewhere is not None
        assert elsewhere.get_secret_value() == "redis://elsewhere:6379/0"
    assert urls_of_running(directory) == {}
    assert not (directory / "urls.json").exists()


def test_the_simulated_exchange_of_a_running_screener_is_asked_in_place_of_the_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCREENER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SCREENER_EXCHANGE", "bybit")
    with EmbeddedStack.start(tmp_path, ["redis"]) as stack:
        assert (settings_here().exchange, settings_here().exchange_rest_url) == ("bybit", None)
        simulated = {"exchange_rest": "http://127.0.0.1:1", "exchange_ws": "ws://127.0.0.1:1/market/stream"}
        tell_urls(tmp_path, {**stack.urls, **simulated})
        here = settings_here()
        assert (here.exchange, here.exchange_rest_url) == ("binance", simulated["exchange_rest"])
        assert here.exchange_ws_url == simulated["exchange_ws"]
        monkeypatch.setenv("SCREENER_EXCHANGE_REST_URL", "http://127.0.0.1:2")
        assert (settings_here().exchange, settings_here().exchange_rest_url) == (
            "bybit",
            "http://127.0.0.1:2",
        )


@pytest.mark.parametrize("lock", ["", "no number", "999999999"])
def test_what_an_ended_process_left_is_not_taken_for_a_running_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setenv("SCREENER_DATA_DIR", str(tmp_path))
    (tmp_path / "stack.lock").write_text(lock)
    (tmp_path / "urls.json").write_text('{"postgres": "postgresql://gone"}')
    assert postgres_url() is None


@pytest.mark.parametrize("content", ["", "[1]", '{"postgres":'])
def test_a_damaged_file_of_urls_is_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("SCREENER_DATA_DIR", str(tmp_path))
    with EmbeddedStack.start(tmp_path, ["redis"]) as stack:
        assert urls_of_running(tmp_path) == stack.urls
        (tmp_path / "urls.json").write_text(content)
        assert urls_of_running(tmp_path) == {}
