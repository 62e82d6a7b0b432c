"""The log: readable, machine readable, and without secrets."""

from __future__ import annotations

import logging

import orjson
import pytest
import structlog

from app.telemetry.log_output import LibraryRepeats, configure_logging, masked


@pytest.fixture(autouse=True)
def _logging_as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_both_loggers_write_one_json_object_a_line(capsys):
    configure_logging("info", "json")
    structlog.get_logger("screener.test").info("frame_read", rows=500)
    logging.getLogger("elsewhere").warning("lost %s of %d", "two", 7)
    ours, theirs = lines(capsys)
    assert (ours["event"], ours["rows"], ours["level"], ours["logger"]) == (
        "frame_read",
        500,
        "info",
        "screener.test",
    )
    assert str(ours["timestamp"]).endswith("Z")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("lost two of 7", "warning", "elsewhere")


def test_events_below_the_level_are_left_out(capsys):
    configure_logging("warning", "json")
    structlog.get_logger("test").info("quiet")
    logging.getLogger("elsewhere").info("quiet too")
    structlog.get_logger("test").error("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_secret_reaches_the_log(capsys, log_format):
    configure_logging("debug", log_format)
    log = structlog.get_logger("test")
    log.info(
        "connected",
        url="postgresql://screener:hunter2@db:5432/x",
        password="hunter2",
        nested={"jwt": "hunter2"},
    )
    log.info("asked", header="Authorization: Bearer hunter2.abc", query="?token=hunter2&limit=5")
    logging.getLogger("driver").error("cannot reach redis://:hunter2@cache:6379/0")
    try:
        raise ValueError("bad dsn postgres://u:hunter2@h/d")
    except ValueError:
        log.exception("failed", urls=["nats://u:hunter2@h:4222"])
    written = capsys.readouterr().err
    assert "hunter2" not in written
    assert "bad dsn postgres://u:***@h/d" in written
    assert "limit=5" in written


def test_ordinary_text_is_not_masked():
    text = "GET http://127.0.0.1:8080/api/alerts?limit=5 took 3 ms; see a@b.example"
    assert masked(text) == text


def logged(name: str, level: int, text: str, exc_info: object = None) -> logging.LogRecord:
    return logging.LogRecord(name, level, "path", 1, text, (), exc_info)  # type: ignore[arg-type]


def test_of_a_library_one_line_a_minute_passes_with_the_number_of_those_left_out():
    now_s = 0.0
    repeats = LibraryRepeats(lambda: now_s)
    passed = []
    for step in range(1_300):
        now_s = step / 10
        record = logged("aiokafka.conn", logging.ERROR, "cannot connect")
        if repeats.filter(record):
            passed.append(record.getMessage())
    assert passed == [
        "cannot connect",
        "cannot connect (and 599 more of aiokafka since its last line)",
        "cannot connect (and 599 more of aiokafka since its last line)",
    ]


def test_what_a_library_says_once_and_what_we_say_is_never_left_out():
    repeats = LibraryRepeats(lambda: 0.0)
    fault = (ValueError, ValueError("x"), None)
    told = [
        logged("aiokafka", logging.WARNING, "a warning"),
        logged("aiokafka", logging.ERROR, "an error"),
        logged("nats.aio.client", logging.ERROR, "of another library"),
        *[logged("aiokafka", logging.CRITICAL, "the end")] * 3,
        *[logged("aiokafka", logging.INFO, "joined")] * 3,
        *[logged("mode.services", logging.ERROR, "a service crashed", fault)] * 3,
        *[logged("sinks", logging.WARNING, "sink_waits")] * 3,
    ]
    assert all(map(repeats.filter, told))
    assert not repeats.filter(logged("aiokafka.consumer", logging.ERROR, "another error"))
