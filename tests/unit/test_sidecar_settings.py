"""Settings of the sidecar."""

from __future__ import annotations

import pytest

from app.errors import SettingsError
from app.settings import Settings


def test_allowed_origins_are_split_at_commas():
    settings = Settings.load({"SCREENER_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000,"})
    assert settings.allowed_origins == ("https://a.example", "http://localhost:3000")
    assert Settings.load({}).allowed_origins == ()


@pytest.mark.parametrize(
    "text", ["*", "https://*.example", "a.example", "https://a.example/", "https://A.example"]
)
def test_what_is_no_exact_origin_is_refused(text):
    with pytest.raises(SettingsError, match=r"SCREENER_ALLOWED_ORIGINS.*without path or wildcard"):
        Settings.load({"SCREENER_ALLOWED_ORIGINS": text})
