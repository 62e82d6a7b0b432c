"""Settings: from the environment alone, all faults at once, secrets never printed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.process.children.supervisor import role_environ
from app.settings import PREFIX, Settings
from app.settings.env_file import render

SETTINGS_FILE = Path(__file__).parents[2] / "deploy" / "settings.env"
URLS = {
    "SCREENER_NATS_URL": "nats://me:hush-nats@example:4222",
    "SCREENER_KAFKA_URL": "one:9092,two:9092",
    "SCREENER_REDIS_URL": "redis://:hush-redis@example:6379/0",
    "SCREENER_POSTGRES_URL": "postgresql://me:hush-postgres@example:5432/screener",
}


def test_variables_set_their_fields_and_others_keep_their_defaults():
    settings = Settings.load(
        {"SCREENER_PARTITIONS": "8", "HOME": "/home/me", "SCREENER_DATA_DIR": "/var/lib/s"}
    )
    assert (settings.partitions, settings.data_dir) == (8, Path("/var/lib/s"))
    assert settings.frame_max_rows == Settings().frame_max_rows


def test_without_an_environment_given_the_process_own_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCREENER_PARTITIONS", "5")
    assert Settings.load().partitions == 5
    assert Settings.load({}).partitions == Settings().partitions


def test_overrides_win_over_the_environment():
    assert Settings.load({"SCREENER_PARTITIONS": "8"}, partitions=3).partitions == 3


def test_all_faults_are_named_at_once():
    environ = {
        "SCREENER_PARTITIONS": "many",
        "SCREENER_FRAME_MAX_ROWS": "0",
        "SCREENER_LOG_LEVEL": "loud",
        "SCREENER_NAMESPACE": "Not/Allowed",
        "SCREENER_PARTITONS": "4",
        "SCREENER_SERVICE_PORT_HTTP": "tcp://10.0.0.1:80",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ)
    for name in environ:
        assert f"{name}: " in str(caught.value)
    assert "SCREENER_PARTITONS: unknown setting" in str(caught.value)


def test_a_bad_value_is_explained_without_repeating_it():
    with pytest.raises(SettingsError) as caught:
        Settings.load(URLS | {"SCREENER_SIDECAR_PORT": "hush-port"})
    assert "hush" not in str(caught.value)


def test_a_setting_may_stand_in_a_file(tmp_path: Path):
    secret, number = tmp_path / "postgres_url", tmp_path / "partitions"
    secret.write_text("postgresql://me:hush@example/screener\n")
    number.write_text("6")
    settings = Settings.load(
        {"SCREENER_POSTGRES_URL_FILE": str(secret), "SCREENER_PARTITIONS_FILE": str(number)}
    )
    assert settings.postgres_url is not None
    assert settings.postgres_url.get_secret_value() == "postgresql://me:hush@example/screener"
    assert settings.partitions == 6


def test_only_the_last_line_break_of_a_file_is_dropped(tmp_path: Path):
    (tmp_path / "exchange").write_text(" two words \n\n")
    assert Settings.load({"SCREENER_EXCHANGE_FILE": str(tmp_path / "exchange")}).exchange == " two words \n"


def test_files_that_give_no_setting_are_named_with_their_reason(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    environ = {
        "SCREENER_NATS_URL_FILE": str(tmp_path / "missing"),
        "SCREENER_REDIS_URL_FILE": str(tmp_path / "binary"),
        "SCREENER_NO_SUCH_FILE": str(tmp_path / "binary"),
        "SCREENER_KAFKA_URL_FILE": str(tmp_path / "binary"),
        "SCREENER_KAFKA_URL": "one:9092",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ)
    text = str(caught.value)
    assert f"SCREENER_NATS_URL_FILE: cannot read {tmp_path / 'missing'}: No such file or directory" in text
    assert "SCREENER_REDIS_URL_FILE: cannot read" in text
    assert "not UTF-8 text" in text
    assert "SCREENER_NO_SUCH_FILE: unknown setting" in text
    assert "SCREENER_KAFKA_URL_FILE: SCREENER_KAFKA_URL is set too; remove one of them" in text


def test_no_setting_is_named_like_the_file_of_another():
    assert not {f"{name}_file" for name in Settings.model_fields} & set(Settings.model_fields)


@pytest.mark.parametrize("namespace", ["1st", "Upper", "with-dash", "with.dot", "x" * 41, "a b"])
def test_a_namespace_that_could_not_name_a_schema_is_refused(namespace: str):
    with pytest.raises(SettingsError, match="SCREENER_NAMESPACE"):
        Settings.load({"SCREENER_NAMESPACE": namespace})


def test_a_namespace_stands_before_every_name():
    plain, spaced = Settings.load({}), Settings.load({"SCREENER_NAMESPACE": "demo_2"})
    assert (plain.name("candles"), plain.database_schema) == ("candles", "public")
    assert (spaced.name("candles"), spaced.database_schema) == ("demo_2.candles", "demo_2")


def test_origins_are_split_at_commas():
    environ = {"SCREENER_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000,"}
    assert Settings.load(environ).allowed_origins == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize("network", ["anywhere", "10.0.0.1/8", "10.0.0.0/33", "*"])
def test_a_proxy_that_is_no_network_is_refused(network: str):
    with pytest.raises(SettingsError, match="SCREENER_TRUSTED_PROXIES"):
        Settings.load({"SCREENER_TRUSTED_PROXIES": network})


@pytest.mark.parametrize("origin", ["*", "https://a.example/path", "a.example", "https://*.example"])
def test_what_is_no_origin_is_refused(origin: str):
    with pytest.raises(SettingsError, match="SCREENER_ALLOWED_ORIGINS"):
        Settings.load({"SCREENER_ALLOWED_ORIGINS": origin})


def test_secrets_are_masked_however_settings_are_printed():
    settings = Settings.load(URLS)
    for text in (
        repr(settings),
        str(settings),
        f"{settings}",
        settings.model_dump_json(),
        str(settings.model_dump()),
    ):
        assert "hush" not in text
    assert "hush-nats" in settings.server_urls().nats


def test_an_access_has_its_url_and_its_names_and_does_not_print_the_url():
    settings = Settings.load(URLS, namespace="blue")
    postgres, redis = settings.postgres(), settings.redis()
    assert (postgres.url, redis.url) == (settings.server_urls().postgres, settings.server_urls().redis)
    assert (postgres.schema, redis.name("tickers")) == ("blue", "blue.tickers")
    assert (Settings.load(URLS).postgres().schema, Settings.load(URLS).redis().name("x")) == ("public", "x")
    assert "hush" in postgres.url
    assert "hush" in redis.url
    assert "hush" not in f"{postgres} {redis}"


def test_the_secret_of_tokens_is_given_and_not_printed():
    rules = Settings.load({"SCREENER_JWT_SECRET": "hush" * 8}).tokens()
    assert rules.secret is not None
    assert rules.secret.get_secret_value() == "hush" * 8
    assert "hush" not in f"{rules}"


@pytest.mark.parametrize("server", ["postgres", "redis"])
@pytest.mark.parametrize("environ", [{}, {"SCREENER_POSTGRES_URL": "", "SCREENER_REDIS_URL": ""}])
def test_an_access_without_a_url_names_the_setting(server: str, environ: dict[str, str]):
    settings = Settings.load(environ)
    with pytest.raises(SettingsError, match=rf"SCREENER_{server.upper()}_URL is not set.*screener up"):
        getattr(settings, server)()


def test_an_access_to_the_brokers_is_what_the_settings_say_without_the_secrets():
    given = {"SCREENER_KAFKA_URL": "me:hush-kafka@one:9092,two:9092", "SCREENER_PARTITIONS": "7"}
    settings = Settings.load(URLS | given, namespace="blue")
    nats, kafka = settings.nats(), settings.kafka()
    assert (nats.url, kafka.servers) == (settings.server_urls().nats, "one:9092,two:9092")
    assert (nats.namespace.name("x"), kafka.namespace.name("x")) == ("blue.x", "blue.x")
    assert (kafka.security, kafka.sasl_mechanism, kafka.username) == ("sasl_plaintext", "PLAIN", "me")
    assert (kafka.partitions, kafka.replication_factor, kafka.ca_file) == (7, 1, None)
    assert kafka.password is not None
    assert kafka.password.get_secret_value() == "hush-kafka"
    assert "hush" not in f"{nats} {kafka}"


@pytest.mark.parametrize("server", ["nats", "kafka"])
def test_an_access_to_a_broker_without_a_url_names_the_setting(server: str):
    settings = Settings.load({f"SCREENER_{server.upper()}_URL": ""})
    with pytest.raises(SettingsError, match=rf"SCREENER_{server.upper()}_URL is not set.*screener up"):
        getattr(settings, server)()


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings.load({}).partitions = 3


def test_missing_urls_are_all_named():
    with pytest.raises(SettingsError) as caught:
        Settings.load({"SCREENER_KAFKA_URL": "one:9092", "SCREENER_REDIS_URL": ""}).server_urls()
    with pytest.raises(SettingsError, match=re.escape(str(caught.value))):
        Settings.load({"SCREENER_KAFKA_URL": "one:9092"}).servers()
    text = str(caught.value)
    assert all(name in text for name in ("SCREENER_NATS_URL", "SCREENER_REDIS_URL", "SCREENER_POSTGRES_URL"))
    assert "SCREENER_KAFKA_URL" not in text
    assert "screener up" in text


@pytest.mark.parametrize(("given", "becomes"), [("plaintext", "sasl_plaintext"), ("ssl", "sasl_ssl")])
def test_a_user_in_the_url_of_kafka_stands_for_the_settings_of_its_name(given: str, becomes: str):
    url = "me:p%40ss:w@h:1,i:2"
    settings = Settings.load(URLS | {"SCREENER_KAFKA_URL": url, "SCREENER_KAFKA_SECURITY": given})
    assert settings.kafka_url == "h:1,i:2"
    assert settings.kafka_security == becomes
    assert settings.kafka_sasl_mechanism == "PLAIN"
    assert settings.kafka_username == "me"
    assert settings.kafka_password is not None
    assert settings.kafka_password.get_secret_value() == "p@ss:w"
    assert "p@ss" not in f"{settings!r}{settings}"
    assert Settings.load(settings.servers_environ()) == settings


@pytest.mark.parametrize("url", ["me@h:1", "me:@h:1", ":secret@h:1"])
def test_half_a_user_in_the_url_of_kafka_is_refused_and_not_repeated(url: str):
    with pytest.raises(SettingsError, match=r"SCREENER_KAFKA_URL: .*user:password@host:port") as refused:
        Settings.load({"SCREENER_KAFKA_URL": url})
    assert "secret" not in str(refused.value)


def test_urls_are_handed_on_as_variables():
    assert Settings.load(URLS).servers_environ() == URLS


def test_a_role_process_gets_exactly_these_settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCREENER_PARTITIONS", "7")
    given = Settings.load(
        URLS,
        namespace="demo",
        partitions=3,
        allowed_origins=("https://a.example", "https://b.example"),
        simulated_updates_per_s=2.5,
        alert_mode="close",
        jwt_secret="hush-token-key of more than 32 bytes",
        trusted_proxies=("10.0.0.0/8", "fd00::/8"),
        webhook_url="https://example.com/hush-hook",
    )
    environ = role_environ(given)
    assert Settings.load(environ) == given
    assert {name for name in environ if name.startswith(PREFIX)} == {
        f"{PREFIX}{name.upper()}" for name in Settings.model_fields if getattr(given, name) is not None
    }


def test_a_role_process_imports_from_the_folder_of_this_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", "of_the_user")
    first, *others = role_environ(Settings.load(URLS))["PYTHONPATH"].split(os.pathsep)
    assert Path(first) == Path(__file__).parents[2]
    assert others == ["of_the_user"]


def test_the_settings_file_of_the_deployment_is_up_to_date():
    assert SETTINGS_FILE.read_text() == render(), "run: python -m app.settings.env_file > deploy/settings.env"


def test_the_settings_file_names_every_setting_in_order_with_a_comment_and_its_default():
    lines = SETTINGS_FILE.read_text().splitlines()
    at = [number for number, line in enumerate(lines) if line.removeprefix("# ").startswith(PREFIX)]
    names = [lines[number].removeprefix("# ").partition("=")[0] for number in at]
    assert names == [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    assert all(lines[number - 1].startswith("# ") for number in at)
    given = dict(line.split("=", 1) for line in lines if line.startswith(PREFIX))
    assert Settings.load(given) == Settings.load({})
