"""WS /ws/alerts against real servers: live alerts, resuming, slow clients, refusals."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import aiohttp
import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from app.settings import Settings
from app.sidecar.state.limits import SidecarLimits
from app.wire.barrier import Barrier
from app.wire.kafka import client_options, ensure_topics
from app.wire.topics import Topics
from tests.support.alerts import make_alert, publish, store
from tests.support.eventually import eventually
from tests.support.sidecar import prepare, read_alerts, read_close, read_until_id, running_sidecar
from tests.support.stalled_client import CLOSE_OPCODE, StalledClient

SMALL_MEMORY = SidecarLimits(remembered_alerts=20, repeat_distance=10, catch_up_alerts=7, settle_s=1.0)
EVERYTHING = -1
TEXT_OPCODE = 0x1


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


def ids(alerts: list[dict]) -> list[str]:
    return [alert["id"] for alert in alerts]


async def test_a_client_gets_each_new_alert_with_its_seq_and_time_of_delivery(settings):
    alert = make_alert(1)
    await publish(settings, [make_alert(0)])
    async with running_sidecar(settings) as client, client.alerts() as socket:
        (seq,) = await publish(settings, [alert])
        (received,) = await read_alerts(socket, lambda found: len(found) == 1)
    delivered_ts_ms = received["timings"].pop("deliver_ts_ms")
    assert received == {**alert, "seq": seq}
    assert delivered_ts_ms > alert["timings"]["publish_ts_ms"]


async def test_barriers_repeats_and_unusable_records_are_not_delivered_and_counted_if_bad(settings):
    first, last = make_alert(1), make_alert(2)
    bad = [
        b"not json",
        b"screener-barrier:broken",
        b"{}",
        orjson.dumps({**make_alert(3), "price": "high"}),
        b"",
    ]
    async with running_sidecar(settings) as client, client.alerts() as socket:
        await publish(settings, [first, Barrier("one", 0).encode(), first, *bad, first, last])
        received = await read_until_id(socket, last["id"])
        registry = client.sidecar.parts.registry
    assert ids(received) == [first["id"], last["id"]]
    counted = {
        reason: registry.get_sample_value(
            "screener_dead_letters_total", {"stage": "sidecar", "reason": reason}
        )
        for reason in ("not_json", "alert_schema")
    }
    assert counted == {"not_json": 3.0, "alert_schema": 2.0}


async def test_a_client_resumes_from_memory_after_the_seq_it_names(settings):
    alerts = [make_alert(n) for n in range(12)]
    async with running_sidecar(settings) as client:
        seqs = await publish(settings, alerts)
        async with client.alerts(since=seqs[4]) as socket:
            received = await read_until_id(socket, alerts[-1]["id"])
            await publish(settings, [make_alert(12)])
            received += await read_alerts(socket, lambda found: len(found) == 1)
    assert ids(received) == ids([*alerts[5:], make_alert(12)])


async def test_a_client_resumes_across_the_seam_of_database_and_memory_without_gap_or_repeat(settings):
    alerts = [make_alert(n) for n in range(100)]
    records: list[dict | bytes] = []
    for n, alert in enumerate(alerts):
        records.append(alert)
        if n % 9 == 0:
            records.append(Barrier(f"b{n}", 0).encode())
        if n % 7 == 6:
            records.append(alerts[n - 3])
    offsets = await publish(settings, records)
    first_seq = {
        alert["id"]: seq
        for seq, alert in reversed(list(zip(offsets, records, strict=True)))
        if alert != b"" and isinstance(alert, dict)
    }
    seqs = [first_seq[alert["id"]] for alert in alerts]
    await store(settings, seqs, alerts)
    async with running_sidecar(settings, SMALL_MEMORY) as client:
        assert 0 < len(client.sidecar.parts.alerts) <= 20
        for since in (EVERYTHING, seqs[0], seqs[50], seqs[85], seqs[98]):
            async with client.alerts(since=since) as socket:
                received = await read_until_id(socket, alerts[-1]["id"])
            expected = [alert["id"] for alert, seq in zip(alerts, seqs, strict=True) if seq > since]
            assert ids(received) == expected, f"since {since}"
            assert [alert["seq"] for alert in received] == [seq for seq in seqs if seq > since]


async def test_a_client_cut_at_random_and_resuming_gets_every_alert_exactly_once(settings):
    total, rng = 300, random.Random(7)
    alerts = [make_alert(n, text="x" * 400) for n in range(total)]
    received: list[dict] = []

    async def produce() -> None:
        for start in range(0, total, 5):
            chunk = alerts[start : start + 5]
            repeats = [alerts[start - 3]] if start and rng.random() < 0.3 else []
            offsets = await publish(settings, [*chunk, *repeats])
            await store(settings, offsets[: len(chunk)], chunk)

    async def consume(client) -> None:
        while len(received) < total:
            since = received[-1]["seq"] if received else EVERYTHING
            async with client.alerts(since=since) as socket:
                cut_after = rng.randint(0, 12)
                while len(received) < total and cut_after > 0:
                    received.extend(await read_alerts(socket, lambda found: len(found) == 1))
                    cut_after -= 1
                socket._response.connection.transport.abort()

    async with running_sidecar(settings, SMALL_MEMORY) as client:
        producing = asyncio.create_task(produce())
        async with asyncio.timeout(60):
            await consume(client)
        await producing
    assert ids(received) == ids(alerts)


async def test_a_client_resumes_where_it_was_at_a_new_sidecar(settings):
    alerts = [make_alert(n) for n in range(30)]
    received = []
    for part in (alerts[:10], alerts[10:20], alerts[20:]):
        async with running_sidecar(settings, SMALL_MEMORY) as client:
            seqs = await publish(settings, part[:5])
            await store(settings, seqs, part[:5])
            async with client.alerts(since=received[-1]["seq"] if received else EVERYTHING) as socket:
                received += await read_until_id(socket, part[4]["id"])
        # While no sidecar runs.
        seqs = await publish(settings, part[5:])
        await store(settings, seqs, part[5:])
    async with (
        running_sidecar(settings, SMALL_MEMORY) as client,
        client.alerts(since=received[-1]["seq"]) as socket,
    ):
        received += await read_until_id(socket, alerts[-1]["id"])
    assert ids(received) == ids(alerts)


async def test_a_client_without_since_is_not_sent_what_was_there_before_the_sidecar(settings):
    await publish(settings, [make_alert(n) for n in range(50)])
    async with running_sidecar(settings, wait_ready=False) as client, client.alerts() as socket:
        await publish(settings, [make_alert(50)])
        (received,) = await read_alerts(socket, lambda found: len(found) == 1)
    assert received["id"] == make_alert(50)["id"]


async def test_resuming_ahead_of_the_newest_alert_is_refused_with_the_reason(settings):
    await publish(settings, [make_alert(0)])
    limits = SidecarLimits(settle_s=0.2)
    async with running_sidecar(settings, limits) as client, client.alerts(since=1_000) as socket:
        code, reason = await read_close(socket)
    assert (code, "connect without it" in reason) == (aiohttp.WSCloseCode.POLICY_VIOLATION, True)


async def test_resuming_waits_for_the_database_and_gives_up_rather_than_leave_a_gap(settings):
    alerts = [make_alert(n) for n in range(60)]
    seqs = await publish(settings, alerts)
    await store(settings, seqs[:10], alerts[:10])
    async with running_sidecar(settings, replace(SMALL_MEMORY, settle_s=0.3)) as client:
        async with client.alerts(since=EVERYTHING) as socket:
            code, reason = await read_close(socket)
        assert (code, "same since" in reason) == (aiohttp.WSCloseCode.TRY_AGAIN_LATER, True)
        await store(settings, seqs[10:], alerts[10:])
        async with client.alerts(since=EVERYTHING) as socket:
            assert ids(await read_until_id(socket, alerts[-1]["id"])) == ids(alerts)


@pytest.mark.parametrize(("receive_buffer_bytes", "piece_bytes"), [(32_768, 65_536), (4_096, 500)])
async def test_a_slow_client_is_told_and_closed_while_the_others_get_everything(
    settings, receive_buffer_bytes, piece_bytes
):
    limits = SidecarLimits(
        client_queue_messages=50, client_socket_bytes=16_384, close_s=90.0, stalled_s=600.0
    )
    alerts = [make_alert(n, text="x" * 8_000) for n in range(150)]
    async with running_sidecar(settings, limits) as client:
        stalled = StalledClient(client.sidecar.port, receive_buffer_bytes=receive_buffer_bytes)
        async with client.alerts() as quick, stalled as slow:
            await eventually(lambda: client.receivers == 2)
            received = []
            for start in range(0, len(alerts), 10):
                await publish(settings, alerts[start : start + 10])
                received += await read_until_id(quick, alerts[start + 9]["id"])
            frames = await asyncio.wait_for(slow.frames(piece_bytes), 60)
        failed = client.sidecar.parts.registry.get_sample_value(
            "api_gateway_websocket_messages_failed_total", {"reason": "slow"}
        )
    assert ids(received) == ids(alerts)
    *texts, (last_opcode, closing) = frames
    assert {opcode for opcode, _ in texts} == {TEXT_OPCODE}
    sent = [orjson.loads(payload)["id"] for _, payload in texts]
    assert 0 < len(sent) < len(alerts)
    assert sent == ids(alerts)[: len(sent)]
    assert (last_opcode, int.from_bytes(closing[:2], "big"), closing[2:10]) == (
        CLOSE_OPCODE,
        1013,
        b"too slow",
    )
    assert failed > 50


async def test_a_slow_client_that_never_reads_is_cut_and_leaves_nothing_behind(settings):
    limits = SidecarLimits(client_queue_messages=20, client_socket_bytes=16_384, close_s=0.1)
    async with running_sidecar(settings, limits) as client, StalledClient(client.sidecar.port):
        await eventually(lambda: client.receivers == 1)
        await publish(settings, [make_alert(n, text="x" * 4_000) for n in range(200)])
        await eventually(lambda: len(client.sidecar.parts.clients) == 0)
        assert client.receivers == 0


async def test_a_resuming_client_that_stalls_is_closed(settings):
    limits = SidecarLimits(client_socket_bytes=16_384, stalled_s=0.2, close_s=0.1, catch_up_alerts=20)
    await publish(settings, [make_alert(n, text="x" * 4_000) for n in range(200)])
    async with (
        running_sidecar(settings, limits) as client,
        StalledClient(client.sidecar.port, "/ws/alerts?since=-1"),
    ):
        clients = client.sidecar.parts.clients
        await eventually(lambda: len(clients) == 1)
        await eventually(lambda: len(clients) == 0)


async def test_clients_are_told_that_the_sidecar_goes_away(settings):
    async with running_sidecar(settings) as client:
        session = aiohttp.ClientSession()
        socket = await session.ws_connect(f"http://127.0.0.1:{client.sidecar.port}/ws/alerts")
        closing = asyncio.create_task(read_close(socket))
        await eventually(lambda: client.receivers == 1)
    code, reason = await closing
    await session.close()
    assert (code, "resume" in reason) == (aiohttp.WSCloseCode.GOING_AWAY, True)


async def test_a_message_larger_than_the_limit_ends_its_client_only(settings):
    async with running_sidecar(settings) as client, client.alerts() as good, client.alerts() as bad:
        await bad.send_str("x" * (64 * 1024 + 1))
        assert (await read_close(bad))[0] == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await publish(settings, [make_alert(0)])
        assert len(await read_alerts(good, lambda found: len(found) == 1)) == 1


async def test_what_a_client_says_is_ignored(settings):
    async with running_sidecar(settings) as client, client.alerts() as socket:
        await socket.send_str("x" * 60_000)
        await socket.send_bytes(b"\x00")
        await publish(settings, [make_alert(0)])
        assert len(await read_alerts(socket, lambda found: len(found) == 1)) == 1


async def test_a_bad_query_is_refused_before_the_upgrade(settings):
    expected = {
        "since=": "bad_parameter",
        "since=abc": "bad_parameter",
        "since=1.5": "bad_parameter",
        "since=-2": "bad_parameter",
        "since=99999999999999999999": "bad_parameter",
        "since=1&since=2": "bad_parameter",
        "symbol=BTCUSDT": "unknown_parameter",
    }
    found = {}
    async with running_sidecar(settings) as client:
        for query in expected:
            async with client.session.get(f"/ws/alerts?{query}") as response:
                assert response.status == 400, query
                found[query] = (await response.json())["error"]
    assert found == expected


async def test_only_exactly_listed_origins_and_our_own_page_may_connect(settings):
    settings = settings.model_copy(update={"allowed_origins": ("https://good.example",)})
    async with running_sidecar(settings) as client:
        own = f"http://127.0.0.1:{client.sidecar.port}"

        async def status(origin: str, host: str | None = None) -> int:
            headers = {"Origin": origin, **({"Host": host} if host else {})}
            try:
                async with client.session.ws_connect("/ws/alerts", headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

        assert await status("https://good.example") == 101
        assert await status(own) == 101
        for refused in (
            "https://good.example.evil.test",
            "https://evilgood.example",
            "http://good.example",
            "https://good.example:8443",
            "https://GOOD.example",
            "null",
            "http://127.0.0.1:1",
        ):
            assert await status(refused) == 403, refused
        # A name that somebody made to point here.
        assert await status("http://rebound.test", host="rebound.test") == 403


async def test_one_client_more_than_the_limit_is_refused(settings):
    async with running_sidecar(settings, SidecarLimits(max_clients=1)) as client, client.alerts():
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.session.ws_connect("/ws/alerts")
    assert refused.value.status == 503


async def test_a_client_that_does_not_answer_pings_is_dropped(settings):
    limits = SidecarLimits(heartbeat_s=0.1, pong_s=0.1, close_s=0.1)
    async with running_sidecar(settings, limits) as client, StalledClient(client.sidecar.port):
        await eventually(lambda: len(client.sidecar.parts.clients) == 1)
        await eventually(lambda: len(client.sidecar.parts.clients) == 0)


async def test_when_the_sequence_begins_anew_clients_are_told_and_new_alerts_go_on(settings):
    old, new = [make_alert(n) for n in range(5)], [make_alert(n) for n in range(5, 8)]
    async with running_sidecar(settings) as client:
        async with client.alerts() as socket:
            await publish(settings, old)
            received = await read_until_id(socket, old[-1]["id"])
            await recreate_alerts_topic(settings)
            assert (await read_close(socket, within_s=40))[0] == aiohttp.WSCloseCode.SERVICE_RESTART
        async with client.alerts(since=received[-1]["seq"]) as stale:
            assert (await read_close(stale))[0] == aiohttp.WSCloseCode.POLICY_VIOLATION
        async with client.alerts() as socket:
            seqs = await publish(settings, new)
            assert [alert["seq"] for alert in await read_until_id(socket, new[-1]["id"])] == seqs == [0, 1, 2]


async def recreate_alerts_topic(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(**client_options(settings.kafka()))
    await admin.start()
    try:
        await admin.delete_topics([Topics.of(settings.names()).alerts])
    finally:
        await admin.close()
    await ensure_topics(settings.kafka())
