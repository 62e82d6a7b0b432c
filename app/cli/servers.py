"""`screener servers`: where the servers of a running screener listen; and settings for other commands to find them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from urllib.parse import quote, urlsplit

import click
from pydantic import SecretStr

from app.cli.output import show_json
from app.errors import SettingsError
from app.local.servers.running import EXCHANGE_URLS, urls_of_running
from app.settings import ServerUrls, Settings

_TITLES = {"nats": "NATS", "kafka": "Kafka", "redis": "Redis", "postgres": "PostgreSQL"}


def servers(secrets: bool, as_json: bool) -> None:
    settings = settings_here()
    found = {name: url for name, url in urls_of(settings).items() if url is not None}
    if not found:
        raise SettingsError("no screener runs in this directory, and no SCREENER_*_URL is set")
    shown = found if secrets else {name: place_of(url) for name, url in found.items()}
    if as_json:
        show_json(shown)
        return
    for name, text in shown.items():
        click.echo(f"{_TITLES.get(name, name):<11} {text}")


def urls_of(settings: Settings) -> dict[str, str | None]:
    """Return server -> URL, with its password."""
    given = {field.name: getattr(settings, f"{field.name}_url") for field in fields(ServerUrls)}
    urls = {
        name: url.get_secret_value() if isinstance(url, SecretStr) else url for name, url in given.items()
    }
    name, password = settings.kafka_username, settings.kafka_password
    if urls["kafka"] and name and password and settings.kafka_sasl_mechanism == "PLAIN":
        credentials = f"{quote(name, safe='')}:{quote(password.get_secret_value(), safe='')}"
        urls["kafka"] = f"{credentials}@{urls['kafka']}"
    return urls


def place_of(url: str) -> str:
    """Return host, port and path of a URL or of several, without user, password and parameters."""
    places = []
    for one in url.split(","):
        parts = urlsplit(one if "://" in one else f"kafka://{one}")
        places.append(parts.netloc.rpartition("@")[2] + parts.path)
    return ",".join(places)


def places_line(urls: Mapping[str, str | None]) -> str:
    """Return all servers in one line."""
    return "   ".join(f"{_TITLES.get(name, name)} {place_of(url)}" for name, url in urls.items() if url)


def settings_here() -> Settings:
    """Return the environment's settings. If `screener up`, or a replay, runs in the same data directory, a server
    without a URL is that of this run. So is the exchange, if this run simulates it: real bars do not belong in the
    database of a simulated exchange."""
    settings = Settings.load()
    running = urls_of_running(settings.data_dir)
    names = (*(server.name for server in fields(ServerUrls)), *EXCHANGE_URLS)
    missing = {f"{name}_url": running.get(name) for name in names}
    overrides = {name: url for name, url in missing.items() if url and getattr(settings, name) is None}
    if "exchange_rest_url" in overrides:
        overrides["exchange"] = "binance"
    return Settings.load(**overrides) if overrides else settings
