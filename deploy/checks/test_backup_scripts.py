"""The backup scripts call the servers' programs with the parts of the documented URLs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from programs import CHART, ROOT

SCRIPTS = CHART / "files" / "backup"
DAILY = ROOT / "deploy" / "backup" / "daily.sh"
CALLED = """#!/bin/sh
echo "$0 $*" >>"$CALLS"
for argument in "$@"; do last="$argument"; done
case "$0" in *redis-cli) echo REDIS >"$last" ;; *nats) mkdir -p "$4" ;; esac
"""


def backed_up(folder: Path, script: str, **variables: str) -> list[str]:
    """Run a script; return the command lines of its programs, for which fakes stand in that only record their calls."""
    for program in ("redis-cli", "redis-check-rdb", "nats"):
        (folder / program).write_text(CALLED)
        (folder / program).chmod(0o755)
    calls = folder / "calls"
    environ = {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls), "FOLDER": str(folder / "kept")}
    subprocess.run(["sh", SCRIPTS / script], env=environ | {"RETENTION_DAYS": "7"} | variables, check=True)
    return calls.read_text().splitlines()


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("redis://:secret@redis:6379/0", "redis://default:secret@redis:6379/0"),
        ("rediss://:secret@redis:6379/0", "rediss://default:secret@redis:6379/0"),
        ("redis://user:secret@redis:6379/0", "redis://user:secret@redis:6379/0"),
        ("redis://redis:6379/0", "redis://redis:6379/0"),
    ],
)
def test_redis_is_asked_as_its_default_user_where_the_url_names_none(tmp_path: Path, url: str, asked: str):
    file = tmp_path / "url"
    file.write_text(url)
    calls = backed_up(tmp_path, "redis.sh", SERVER_URL_FILE=str(file))
    assert f"-u {asked} --rdb" in calls[0]
    assert len(list((tmp_path / "kept" / "redis").glob("*.rdb"))) == 1


def test_the_stream_is_backed_up_with_the_variables_that_the_page_names(tmp_path: Path):
    file = tmp_path / "url"
    file.write_text("nats://u:p@nats:4222")
    calls = backed_up(tmp_path, "nats.sh", SERVER_URL_FILE=str(file))
    assert "stream backup CANDLES " in calls[0]
    assert len(list((tmp_path / "kept" / "nats").glob("*Z"))) == 1


def told(page: Path, failed: int, within_s: float = 60.0) -> int:
    """Wait until the page shows `failed`; return when the last backup succeeded, in seconds since 1970."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        text = page.read_text() if page.exists() else ""
        if f'screener_backup_failed{{backup="postgres"}} {failed}\n' in text:
            found = re.search(r"^screener_backup_last_success_timestamp_seconds.* (\d+)$", text, re.M)
            assert found is not None
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s: {text}")


def test_the_daily_backup_tells_prometheus_and_tries_again_after_a_failure(tmp_path: Path):
    (tmp_path / "postgres.sh").write_text(f'test -e "{tmp_path}/well"\n')
    folders = {"SCRIPTS": str(tmp_path), "METRICS": str(tmp_path), "SERVER_URL_FILE": str(tmp_path / "url")}
    environ = os.environ | folders | {"SERVER_URL": "postgresql://a", "PAUSE_S": "24"}
    page = tmp_path / "postgres.prom"
    page.write_text('screener_backup_last_success_timestamp_seconds{backup="postgres"} 1700000000\n')
    with subprocess.Popen(["sh", DAILY, "postgres"], env=environ) as running:
        try:
            # the last success is still the one before this start
            assert told(page, 1) == 1_700_000_000
            (tmp_path / "well").touch()
            assert told(page, 0) > 1_700_000_000
            assert (tmp_path / "url").stat().st_mode & 0o777 == 0o600
        finally:
            running.terminate()
        assert running.wait(60) == 0
