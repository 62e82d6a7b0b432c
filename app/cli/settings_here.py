"""Settings for commands that talk to a running screener."""

from __future__ import annotations

from dataclasses import fields

from app.settings import ServerUrls, Settings
from app.stack.running import urls_of_running


def settings_here() -> Settings:
    """Those of the environment. A server without a URL is the one that `screener up`, or a replay, runs in the
    same data directory, if it does."""
    settings = Settings.load()
    running = urls_of_running(settings.data_dir)
    missing = {f"{server.name}_url": running.get(server.name) for server in fields(ServerUrls)}
    overrides = {name: url for name, url in missing.items() if url and getattr(settings, name) is None}
    return Settings.load(**overrides) if overrides else settings
