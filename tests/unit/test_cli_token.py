"""`screener token`, and the secret that `screener up` keeps for it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import screener
from app.errors import SettingsError
from app.process.private_files import kept_token_secret, token_secret_in
from app.settings import Settings
from app.sidecar.access.auth import Caller, verifier_of

SECRET = "a secret that is long enough for signing tokens"


def run(directory: Path, *arguments: str, **settings: str) -> Result:
    environ = {"SCREENER_DATA_DIR": str(directory)} | {
        f"SCREENER_{name}": text for name, text in settings.items()
    }
    return CliRunner(env=environ).invoke(screener, ["token", *arguments])


def caller(printed: str, **settings: str) -> Caller:
    verifier = verifier_of(Settings.load(**settings).tokens())
    assert verifier is not None
    return verifier.verify(printed.strip())


def test_a_secret_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path):
    assert kept_token_secret(tmp_path) is None
    secret = token_secret_in(tmp_path)
    assert token_secret_in(tmp_path) == kept_token_secret(tmp_path) == secret
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_tokens_of_the_kept_secret_are_taken_by_a_sidecar_with_it(tmp_path: Path):
    secret = token_secret_in(tmp_path)
    admin = caller(run(tmp_path, "--role", "admin", "--sub", "ann").stdout, jwt_secret=secret)
    assert (admin.user_id, admin.admin) == ("ann", True)
    user = caller(run(tmp_path, "--expires", "2h").stdout, jwt_secret=secret)
    assert (user.user_id, user.admin) == ("me", False)
    assert admin.expires_at_s - user.expires_at_s == pytest.approx(22 * 3600, abs=60)


def test_a_token_has_every_claim_that_the_settings_ask_for(tmp_path: Path):
    settings = {
        "jwt_secret": SECRET,
        "jwt_issuer": "us",
        "jwt_audience": "screener",
        "jwt_admin_claim": "realm_access.roles",
        "jwt_admin_value": "chief",
    }
    given = {name.upper(): text for name, text in settings.items()}
    assert caller(run(tmp_path, "--role", "admin", **given).stdout, **settings).admin
    assert not caller(run(tmp_path, **given).stdout, **settings).admin


def test_without_a_secret_it_says_what_to_do_and_strange_times_are_refused(tmp_path: Path):
    for settings, said in (
        ({}, "start `screener up` here once"),
        ({"JWT_JWKS_URL": "https://id.example/keys", "JWT_ALGORITHM": "RS256"}, "identity provider"),
    ):
        result = run(tmp_path, **settings)
        assert isinstance(result.exception, SettingsError)
        assert said in str(result.exception)
    for expires in ("soon", "0d", "99999d", "-1h", "1"):
        result = run(tmp_path, "--expires", expires)
        assert (result.exit_code, "30m, 12h or 7d" in result.output) == (2, True)
