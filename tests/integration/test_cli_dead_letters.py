"""`screener dead-letters` and `screener servers`, against real servers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest
from click.testing import CliRunner, Result

from app.cli.main import screener
from app.errors import SettingsError
from app.process.children.supervisor import role_environ
from app.process.health.probes import probe_kafka
from app.settings import Settings
from app.wire.dead_letters import DeadLetter
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.topics import Topics

AT_MS = 1_704_067_200_000


async def run(settings: Settings, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner(env=role_environ(settings)).invoke, screener, list(arguments))


async def sent(settings: Settings, *letters: bytes) -> None:
    await ensure_topics(settings.kafka())
    async with kafka_producer(settings.kafka()) as producer:
        for letter in letters:
            await producer.send_and_wait(Topics.of(settings.names()).dead_letters, letter)


def letter(reason: str, original: bytes) -> bytes:
    return DeadLetter(reason, f"words on {reason}", "candles.1m.AUSDT", original).encode("bridge", AT_MS)


async def test_they_are_shown_with_time_stage_reason_source_and_the_beginning_of_the_original(
    settings: Settings,
):
    await sent(settings, letter("bad_time", b'{"a":\n\xff' + b"x" * 5000), letter("not_json", b"hm"), b"\xfe")
    result = await run(settings, "dead-letters")
    assert result.exit_code == 0
    for words in ("2024-01-01T00:00:00Z  bridge  bad_time  candles.1m.AUSDT", "words on not_json", "(5,007 bytes)",
                  '{"a":\\n\\xffxxx', "unreadable"):  # fmt: skip
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 250


async def test_control_sequences_in_a_subject_or_message_do_not_reach_the_terminal(settings: Settings):
    clear = "\x1b[2J\x9b2J\x07"
    hostile = DeadLetter("bad_symbol", f"no symbol: {clear}", f"candles.1m.{clear}", clear.encode())
    await sent(
        settings, hostile.encode("bridge", AT_MS), json.dumps({"reason": clear, "stage": [clear]}).encode()
    )
    result = await run(settings, "dead-letters")
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.stdout.split("\n"))
    assert "candles.1m.\\x1b[2J\\x9b2J\\x07" in result.stdout


async def test_they_are_chosen_by_reason_and_number_and_whole_as_json(settings: Settings):
    await sent(settings, *(letter(("bad_time", "not_json")[at % 2], b"%d" % at) for at in range(10)))
    result = await run(settings, "dead-letters", "--reason", "bad_time", "--limit", "2", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["reason"], one["original"]) for one in found] == [("bad_time", "Ng=="), ("bad_time", "OA==")]
    newest = await run(settings, "dead-letters", "--limit", "3")
    assert newest.stdout.count("words on") == 3
    none = await run(settings, "dead-letters", "--reason", "future")
    assert (none.exit_code, none.stdout) == (0, "")
    assert "no dead letters with reason future" in none.stderr


async def test_with_follow_those_that_come_later_are_shown_until_it_is_ended(settings: Settings):
    await sent(settings, letter("bad_time", b"before"))
    following = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "dead-letters", "--follow", "--json",
        env=os.environ | role_environ(settings), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert following.stdout is not None
    try:
        async with asyncio.timeout(60):
            first = json.loads(await following.stdout.readline())
            await sent(settings, letter("not_json", b"later"))
            second = json.loads(await following.stdout.readline())
        assert [one["reason"] for one in (first, second)] == ["bad_time", "not_json"]
    finally:
        following.send_signal(signal.SIGINT)
        await following.communicate()


async def test_they_need_no_server_but_kafka(settings: Settings, tmp_path):
    await sent(settings, letter("not_json", b"hm"))
    environ: dict[str, str | None] = {**role_environ(settings), "SCREENER_DATA_DIR": str(tmp_path)}
    others = dict.fromkeys(f"SCREENER_{server}_URL" for server in ("NATS", "REDIS", "POSTGRES"))
    result = await asyncio.to_thread(CliRunner(env=environ | others).invoke, screener, ["dead-letters"])
    assert result.exception is None
    assert "words on not_json" in result.stdout


async def test_without_a_topic_or_a_kafka_it_says_what_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    result = await run(settings, "dead-letters")
    assert isinstance(result.exception, SettingsError)
    assert "no topic" in str(result.exception)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(screener, ["dead-letters"])
    assert "or run `screener up` here first" in str(result.exception)


async def test_servers_are_told_without_their_passwords_unless_asked(settings: Settings):
    urls = settings.server_urls()
    told = await run(settings, "servers")
    assert told.exit_code == 0
    assert "PostgreSQL" in told.stdout
    assert "@" not in told.stdout
    asked = json.loads((await run(settings, "servers", "--secrets", "--json")).stdout)
    assert (asked["postgres"], asked["nats"]) == (urls.postgres, urls.nats)
    await probe_kafka(asked["kafka"])
