"""The newest alerts in memory: bounds, repeats, and what a client resumes from."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from app.sidecar.live.alert_log import AlertLog, LoggedAlert
from app.sidecar.live.frames import blocks, close_frame, text_frame
from app.sidecar.state.limits import SidecarLimits

LIMITS = SidecarLimits(remembered_alerts=10, remembered_bytes=10_000, remembered_ids=15)


def logged(identifier: str, seq: int, payload: bytes) -> LoggedAlert:
    return LoggedAlert(seq, identifier, "BTCUSDT", "rule", "high", payload)


def parsed(data: bytes) -> list[str]:
    """The texts of the frames in `data`, read by RFC 6455 section 5.2."""
    texts, at = [], 0
    while at < len(data):
        assert data[at] == 0b1000_0001, "final, no extension, text"
        length, at = data[at + 1], at + 2
        assert length < 128, "not masked"
        extended = {126: 2, 127: 8}.get(length, 0)
        if extended:
            length, at = int.from_bytes(data[at : at + extended], "big"), at + extended
            assert length >= {2: 126, 8: 65_536}[extended], "the shortest form"
        texts.append(data[at : at + length].decode())
        at += length
    assert at == len(data)
    return texts


@given(st.sampled_from([0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 70_000]), st.integers(0, 300))
def test_a_frame_is_read_as_the_text_it_was_made_of(length, extra):
    texts = ["ü" * (length // 2), "x" * (length + extra)]
    assert parsed(b"".join(text_frame(text.encode()) for text in texts)) == texts


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=30), st.integers(1, 100))
def test_blocks_hold_all_frames_in_order_within_their_size(frames, most_bytes):
    found = list(blocks(iter(frames), most_bytes))
    assert b"".join(block.data for block in found) == b"".join(frames)
    assert sum(block.messages for block in found) == len(frames)
    assert all(len(block.data) <= most_bytes or block.messages == 1 for block in found)
    at = 0
    for block in found[:-1]:
        at += block.messages
        assert len(block.data) + len(frames[at]) > most_bytes, "the next one would have fitted"


@given(st.integers(1000, 4999), st.text(max_size=200))
def test_a_close_frame_holds_the_code_and_as_much_of_the_reason_as_fits(code, reason):
    frame = close_frame(code, reason)
    assert (frame[0], frame[1], len(frame)) == (0x88, len(frame) - 2, frame[1] + 2)
    assert frame[1] <= 125
    assert int.from_bytes(frame[2:4], "big") == code
    said = frame[4:].decode()
    assert reason.startswith(said)
    assert said == reason or len(reason[: len(said) + 1].encode()) > 123


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40)), max_size=60),
    st.integers(-1, 320),
    st.integers(1, 12),
)
def test_resuming_from_memory_gives_exactly_what_came_after(records, since, most):
    """Against a plain list of everything appended; a record is (distance in seq, number of its id)."""
    log, everything, ids, seq = AlertLog(LIMITS), [], [], -1
    for distance, number in records:
        seq += distance
        identifier = f"id{number}"
        assert log.is_repeat(identifier) == (identifier in ids[-LIMITS.remembered_ids :])
        if identifier in ids[-LIMITS.remembered_ids :]:
            log.skip(seq)
            continue
        ids.append(identifier)
        everything.append((seq, f"{seq}"))
        log.append(logged(identifier, seq, f"{seq}".encode()))
    assert len(log) <= LIMITS.remembered_alerts
    assert log.newest_seq == seq
    kept = [one for one in everything if one[0] > log.floor_seq]
    assert len(kept) == len(log)
    assert log.settled_seq == max((one[0] for one in everything if one[0] <= log.floor_seq), default=-1)
    if not log.holds_all_after(since):
        assert since < log.floor_seq
        return
    found, cursor = [], since
    while alerts := log.after(cursor, most):
        assert len(alerts) <= most
        found += [alert.payload.decode() for alert in alerts]
        cursor = alerts[-1].seq
    assert found == [text for seq, text in everything if seq > since]


def test_memory_is_bounded_by_bytes_too():
    log = AlertLog(replace(LIMITS, remembered_bytes=1_000, remembered_alerts=1_000_000))
    for seq in range(100):
        log.append(logged(f"id{seq}", seq, b"x" * 90))
        assert sum(len(alert.payload) for alert in log.after(log.floor_seq, 1_000)) <= 1_000
    assert log.floor_seq > 80


def test_an_alert_larger_than_the_memory_is_not_kept():
    log = AlertLog(replace(LIMITS, remembered_bytes=100))
    log.append(logged("one", 5, b"x" * 500))
    assert (len(log), log.floor_seq, log.settled_seq) == (0, 5, 5)


def test_alerts_learnt_by_id_are_left_to_the_database():
    log = AlertLog(LIMITS)
    log.restart(99)
    log.learn("a", 100)
    log.skip(101)
    assert (log.floor_seq, log.settled_seq, log.newest_seq, len(log)) == (100, 100, 101, 0)
    assert log.is_repeat("a")
    assert not log.holds_all_after(99)
    assert log.holds_all_after(100)


def test_a_restart_forgets_everything():
    log = AlertLog(LIMITS)
    log.append(logged("a", 7, b"x"))
    log.restart(-1)
    assert (len(log), log.floor_seq, log.newest_seq, log.is_repeat("a")) == (0, -1, -1, False)


def test_an_alert_is_found_by_its_seq_and_only_by_that():
    log = AlertLog(LIMITS)
    for seq in (3, 5, 9):
        log.append(logged(f"id{seq}", seq, b"x"))
    found = {seq: alert.id for seq in range(-1, 12) if (alert := log.at(seq)) is not None}
    assert found == {3: "id3", 5: "id5", 9: "id9"}
