"""What a client of /ws may say, who it may be, and with what code it is closed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest
from structlog.testing import capture_logs

from app.settings import Settings
from app.sidecar.state.limits import SidecarLimits
from tests.support.alerts import make_alert, publish
from tests.support.eventually import eventually
from tests.support.sidecar import prepare, read_close, running_sidecar
from tests.support.stalled_client import CLOSE_OPCODE, StalledClient
from tests.support.tokens import SECRET, bearer, token


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


def with_users(settings: Settings, **more: object) -> Settings:
    return Settings.load({}, **{**settings.model_dump(exclude_unset=True), "jwt_secret": SECRET, **more})


BAD_MESSAGES: dict[str, tuple[str, str | None]] = {
    "no json": ("bad_message", None),
    "[]": ("bad_message", None),
    '"subscribe"': ("bad_message", None),
    "{}": ("unknown_type", None),
    '{"type":"drop"}': ("unknown_type", None),
    '{"type":["ping"]}': ("unknown_type", None),
    '{"type":"ping","id":{}}': ("bad_field", None),
    '{"type":"ping","token":"x"}': ("unknown_field", None),
    '{"type":"subscribe"}': ("unknown_channel", None),
    '{"type":"subscribe","channel":"trades"}': ("unknown_channel", None),
    '{"type":"subscribe","channel":["alerts"]}': ("unknown_channel", None),
    '{"type":"unsubscribe","channel":"alert"}': ("unknown_channel", None),
    '{"type":"subscribe","channel":"alerts","symbol":["BTCUSDT"]}': ("unknown_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","symbols":"BTCUSDT"}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","symbols":[]}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","symbols":["BTC USDT"]}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","symbols":[1]}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","severities":["loud"]}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","since":-2}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","since":1.5}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","since":true}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"alerts","since":1e400}': ("bad_message", None),
    '{"type":"subscribe","channel":"alerts","since_id":"x"}': ("bad_field", "alerts"),
    '{"type":"subscribe","channel":"metrics","since":1}': ("unknown_field", "metrics"),
    '{"type":"subscribe","channel":"metrics","fields":["nonsense"]}': ("bad_field", "metrics"),
    '{"type":"subscribe","channel":"metrics","timeframes":["2h"]}': ("bad_field", "metrics"),
    '{"type":"subscribe","channel":"candles","interval_ms":1}': ("bad_field", "candles"),
    '{"type":"auth"}': ("bad_field", None),
    '{"type":"auth","token":"x"}': ("auth_not_configured", None),
}


async def test_each_bad_message_is_answered_with_its_fault_and_the_conversation_goes_on(settings):
    found = {}
    async with running_sidecar(settings) as client, client.channels() as socket:
        for text in BAD_MESSAGES:
            await socket.socket.send_str(text)
            error = await socket.hear_kind("error")
            assert error["data"]["message"]
            found[text] = error["data"]["error"], error.get("channel")
        await socket.say("ping", id="still here")
        assert await socket.hear() == {"type": "pong", "id": "still here"}
    assert found == BAD_MESSAGES


async def test_a_list_with_one_item_too_many_is_refused(settings):
    symbols = [f"S{n}USDT" for n in range(201)]
    async with running_sidecar(settings) as client, client.channels() as socket:
        await socket.subscribe("alerts", symbols=symbols[:200])
        await socket.say("subscribe", channel="alerts", symbols=symbols, id=1)
        error = await socket.hear_kind("error")
    assert (error["id"], error["data"]["error"]) == (1, "bad_field")


@pytest.mark.parametrize(
    ("limits", "say", "code"),
    [
        (SidecarLimits(), lambda socket: socket.send_bytes(b"{}"), aiohttp.WSCloseCode.UNSUPPORTED_DATA),
        (SidecarLimits(), lambda socket: socket.send_str("x" * 65_537), aiohttp.WSCloseCode.MESSAGE_TOO_BIG),
        (
            SidecarLimits(client_messages_per_minute=1),
            lambda socket: asyncio.gather(*(socket.send_str('{"type":"ping"}') for _ in range(3))),
            aiohttp.WSCloseCode.POLICY_VIOLATION,
        ),
        (
            SidecarLimits(client_messages_per_minute=25),
            lambda socket: asyncio.gather(
                *(socket.send_str('{"type":"subscribe","channel":"metrics"}') for _ in range(3))
            ),
            aiohttp.WSCloseCode.POLICY_VIOLATION,
        ),
        (SidecarLimits(idle_s=0.05), lambda socket: asyncio.sleep(0), aiohttp.WSCloseCode.POLICY_VIOLATION),
    ],
    ids=["binary", "too large", "too many", "too much to do", "nothing subscribed"],
)
async def test_a_client_that_breaks_a_limit_is_closed_with_its_code_and_the_others_stay(
    settings, limits, say, code
):
    async with running_sidecar(settings, limits) as client, client.alerts() as other:
        async with client.channels() as socket:
            await say(socket.socket)
            found, reason = await socket.close_of()
            assert (found, bool(reason)) == (code, True)
        await eventually(lambda: len(client.sidecar.parts.clients) == 1)
        await publish(settings, [make_alert(0)])
        assert (await other.receive(20)).type is aiohttp.WSMsgType.TEXT


async def test_a_message_far_too_large_is_refused_without_reading_it_all_into_memory(settings):
    async with running_sidecar(settings) as client, StalledClient(client.sidecar.port, "/ws") as large:
        await large.send(0x81, b"x" * 65_535)  # in one frame a little less than the limit: it is answered
        assert b"bad_message" in (await large.next_frame())[1]
        for _ in range(2):
            await large.send(0x01, b"x" * 65_535)  # as parts of one message, more than it
            await large.send(0x00, b"x" * 65_535)
        opcode, payload = await large.next_frame()
    assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE_OPCODE, 1009)


HOSTILE_FRAMES = {
    "a reserved bit": (b"\xc1\x82\0\0\0\0{}", 1002),
    "an unknown opcode": (b"\x83\x82\0\0\0\0{}", 1002),
    "a ping in pieces": (b"\x09\x82\0\0\0\0hi", 1002),
    "a ping that is too long": (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),
    "a piece of no message": (b"\x80\x82\0\0\0\0hi", 1002),
    "a close code that nobody may send": (b"\x88\x82\0\0\0\0\x03\xed", 1002),
    "no UTF-8": (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
    "a length without bound": (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
}


async def test_frames_that_break_the_protocol_close_their_client_only(settings):
    found = {}
    async with running_sidecar(settings) as client, client.channels() as other:
        for name, (frame, _) in HOSTILE_FRAMES.items():
            async with StalledClient(client.sidecar.port, "/ws") as hostile:
                await hostile.send_bytes(frame)
                opcode, payload = await hostile.next_frame()
                assert opcode == CLOSE_OPCODE, name
                found[name] = int.from_bytes(payload[:2], "big")
        await other.say("ping")
        await other.hear_kind("pong")
        registry = client.sidecar.parts.registry
        counted = registry.get_sample_value("api_gateway_websocket_closed_total", {"code": "1002"})
    assert found == {name: code for name, (_, code) in HOSTILE_FRAMES.items()}
    assert counted == 6


async def test_a_subscribed_client_is_not_idle(settings):
    async with running_sidecar(settings, SidecarLimits(idle_s=0.3)) as client, client.channels() as socket:
        await socket.subscribe("alerts")
        async with client.channels() as idle:
            assert (await idle.close_of())[0] == aiohttp.WSCloseCode.POLICY_VIOLATION
        await socket.say("unsubscribe", channel="alerts")
        await socket.hear_kind("unsubscribed")
        assert (await socket.close_of())[1] == "no subscription for too long"


async def test_a_silent_peer_is_told_and_cut(settings):
    limits = SidecarLimits(heartbeat_s=0.1, pong_s=0.1, close_s=0.1)
    async with (
        running_sidecar(settings, limits) as client,
        StalledClient(client.sidecar.port, "/ws") as silent,
    ):
        opcodes = [opcode for opcode, _ in await silent.frames(65_536)]
        await eventually(lambda: len(client.sidecar.parts.clients) == 0)
    assert opcodes == [0x9, CLOSE_OPCODE]


async def test_a_peer_that_answers_pings_stays_and_its_own_pings_are_answered(settings):
    limits = SidecarLimits(heartbeat_s=0.1, pong_s=30.0)
    async with running_sidecar(settings, limits) as client, StalledClient(client.sidecar.port, "/ws") as peer:
        await peer.send(0x89, b"are you there")
        heard: list[tuple[int, bytes]] = []
        while len([opcode for opcode, _ in heard if opcode == 0x9]) < 3:
            heard.append(await peer.next_frame())
            if heard[-1][0] == 0x9:
                await peer.send(0x8A, heard[-1][1])
        assert len(client.sidecar.parts.clients) == 1
    assert (0xA, b"are you there") in heard


async def test_clients_that_go_away_at_any_moment_leave_nothing_behind_and_are_no_fault(settings):
    """Reset right after the handshake was asked for, after its answer, and with a subscription under way."""
    with capture_logs() as logged:
        async with running_sidecar(settings) as client:
            for number in range(30):
                peer = StalledClient(client.sidecar.port, "/ws")
                await peer.connect()
                if number % 3:
                    await peer.read_head()
                if number % 3 == 2:
                    await peer.send_text(b'{"type":"subscribe","channel":"metrics"}')
                peer.reset()
            parts = client.sidecar.parts
            await eventually(lambda: len(parts.clients) == 0)
            async with client.channels() as socket:
                await socket.subscribe("alerts")
        assert [len(channel) for channel in parts.channels] == [0, 0]
    assert [event for event in logged if event["log_level"] in ("error", "critical")] == []


async def test_an_ordinary_request_to_a_websocket_address_is_answered_as_a_bad_one(settings):
    async with running_sidecar(settings) as client:
        for path in ("/ws", "/ws/alerts"):
            status, body = await client.get(path)
            assert (status, body["error"]) == (400, "bad_request")


async def test_a_handshake_with_bytes_that_are_not_text_is_answered_as_a_bad_one(settings):
    async with running_sidecar(settings) as client:
        for header in (b"Upgrade", b"Connection", b"Sec-WebSocket-Version", b"Sec-WebSocket-Key"):
            reader, writer = await asyncio.open_connection("127.0.0.1", client.sidecar.port)
            writer.write(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
            writer.write(b"Sec-WebSocket-Version: 13\r\n" if header[-7:] != b"Version" else b"")
            writer.write(header + b": \xc8\xff\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 400"), header
            writer.close()
            await writer.wait_closed()


async def test_compression_is_not_agreed_to(settings):
    async with running_sidecar(settings) as client, StalledClient(client.sidecar.port, "/ws") as peer:
        assert b"sec-websocket-extensions" not in peer.head.lower()


async def test_refusals_within_the_conversation_carry_the_id_that_was_sent(settings):
    async with running_sidecar(settings) as client, client.channels() as socket:
        await socket.say("auth", token="x", id=7)
        assert (await socket.hear_kind("error"))["id"] == 7
        await socket.say("subscribe", channel="alerts", mine=True, id="mine")
        refusal = await socket.hear_kind("error")
        assert (refusal["id"], refusal["data"]["error"]) == ("mine", "user_required")


async def test_a_page_of_another_origin_may_not_open_the_channels(settings):
    async with running_sidecar(settings) as client:
        for origin in ("https://evil.example", "null"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with client.channels(Origin=origin):
                    pass
            assert refused.value.status == 403


async def test_one_connection_more_of_an_address_is_refused_until_another_ends(settings):
    limits = SidecarLimits(max_clients_per_address=2)
    async with running_sidecar(settings, limits) as client, client.alerts():
        async with client.channels():
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.session.ws_connect("/ws")
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "5")
        await eventually(lambda: len(client.sidecar.parts.clients) == 1)
        async with client.channels() as socket:
            await socket.subscribe("alerts")


async def test_behind_a_trusted_proxy_connections_count_for_the_address_it_names(settings):
    settings = settings.model_copy(update={"trusted_proxies": ("127.0.0.0/8",)})
    async with (
        running_sidecar(settings, SidecarLimits(max_clients_per_address=1)) as client,
        client.channels(**{"X-Forwarded-For": "203.0.113.1"}),
        client.channels(**{"X-Forwarded-For": "203.0.113.2"}),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with client.channels(**{"X-Forwarded-For": "198.51.100.9, 203.0.113.2"}):
                pass
    assert refused.value.status == 429


async def test_leaving_clients_are_told_different_times_to_come_back(settings):
    async with AsyncExitStack() as stack:
        async with running_sidecar(settings, SidecarLimits(reconnect_every_ms=150)) as client:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            url = f"http://127.0.0.1:{client.sidecar.port}/ws"
            sockets = [await session.ws_connect(url) for _ in range(4)]
            closings = [asyncio.create_task(socket.receive(20)) for socket in sockets]
            await eventually(lambda: len(client.sidecar.parts.clients) == 4)
        closed = [await closing for closing in closings]
    assert {message.data for message in closed} == {aiohttp.WSCloseCode.GOING_AWAY}
    waits_ms = sorted(int(message.extra.partition("retry_after_ms=")[2]) for message in closed)
    assert waits_ms == [0, 150, 300, 450]


async def test_clients_that_do_not_answer_do_not_hold_up_the_end(settings):
    limits = SidecarLimits(close_s=600.0, drain_s=0.1)
    async with asyncio.timeout(60):
        async with AsyncExitStack() as peers:
            async with running_sidecar(settings, limits) as client:
                for _ in range(3):
                    await peers.enter_async_context(StalledClient(client.sidecar.port, "/ws"))
                await eventually(lambda: len(client.sidecar.parts.clients) == 3)
            assert len(client.sidecar.parts.clients) == 0


async def test_a_user_is_known_by_the_token_of_the_first_message_or_of_the_request(settings):
    settings = with_users(settings, websocket_token_required=True)
    async with running_sidecar(settings) as client:
        async with client.channels() as socket:
            await socket.say("auth", token=token("ann"), id=3)
            answer = await socket.hear_kind("authenticated")
            assert (answer["data"]["user"], answer["id"]) == ("ann", 3)
            await socket.subscribe("alerts")
        async with client.channels(**bearer("bob")) as socket:
            await socket.subscribe("alerts")
        async with client.channels() as nobody:
            await nobody.say("subscribe", channel="alerts")
            assert (await nobody.hear_kind("error"))["data"]["error"] == "token_required"
            assert (await nobody.close_of())[0] == aiohttp.WSCloseCode.POLICY_VIOLATION
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.session.ws_connect("/ws/alerts")
        assert refused.value.status == 401
        async with client.session.ws_connect("/ws/alerts", headers=bearer("ann")):
            await eventually(lambda: client.receivers == 1)


async def test_a_token_that_is_not_accepted_closes_the_client_and_none_is_logged(settings):
    bad = (token("ann", expires_in_s=-100), token("ann") + "x", "planted-token")
    settings = with_users(settings, jwt_leeway_s=0)
    good, codes = bearer("ann"), []
    with capture_logs() as logged:
        async with running_sidecar(settings) as client:
            for text in bad:
                async with client.channels() as socket:
                    await socket.say("auth", token=text)
                    codes.append((await socket.hear_kind("error"))["data"]["error"])
                    assert (await socket.close_of())[0] == aiohttp.WSCloseCode.POLICY_VIOLATION
            async with client.channels(**good) as socket:
                await socket.say("auth", token=good["Authorization"].removeprefix("Bearer "))
                await socket.hear_kind("authenticated")
    assert codes == ["token_expired", "token_invalid", "token_invalid"]
    assert not any(text in repr(logged) for text in (*bad, good["Authorization"].removeprefix("Bearer ")))


async def test_a_connection_ends_when_its_token_expires_unless_it_brings_a_new_one(settings):
    settings = with_users(settings, jwt_leeway_s=0)
    async with (
        running_sidecar(settings, SidecarLimits(expiry_check_s=0.05)) as client,
        client.channels() as kept,
        client.channels() as ending,
    ):
        for socket in (kept, ending):
            await socket.say("auth", token=token("ann", expires_in_s=3))
            await socket.hear_kind("authenticated")
            await socket.subscribe("alerts")
        await kept.say("auth", token=token("bob"))
        assert (await kept.hear_kind("error"))["data"]["error"] == "other_user"
        await kept.say("auth", token=token("ann", expires_in_s=600))
        await kept.hear_kind("authenticated")
        code, reason = await ending.close_of()
        assert (code, "expired" in reason) == (aiohttp.WSCloseCode.POLICY_VIOLATION, True)
        await kept.say("ping")
        await kept.hear_kind("pong")


async def test_a_client_of_every_alert_is_closed_when_its_token_expires(settings):
    settings = with_users(settings, jwt_leeway_s=0, websocket_token_required=True)
    async with running_sidecar(settings, SidecarLimits(expiry_check_s=0.05)) as client:
        headers = bearer("ann", expires_in_s=3)
        async with client.session.ws_connect("/ws/alerts", headers=headers) as socket:
            code, reason = await read_close(socket)
        assert (code, "expired" in reason) == (aiohttp.WSCloseCode.POLICY_VIOLATION, True)
        await eventually(lambda: len(client.sidecar.parts.clients) == client.receivers == 0)


async def test_one_connection_more_of_a_user_is_closed(settings):
    limits = SidecarLimits(max_clients_per_user=1)
    async with running_sidecar(with_users(settings), limits) as client:
        async with client.channels(**bearer("ann")) as first, client.channels(**bearer("bob")) as other:
            await first.subscribe("alerts")
            await other.subscribe("alerts")
            async with client.channels(**bearer("ann")) as second:
                code, reason = await second.close_of()
            assert (code, "connections" in reason) == (aiohttp.WSCloseCode.POLICY_VIOLATION, True)
        await eventually(lambda: len(client.sidecar.parts.clients) == 0)
        async with client.channels(**bearer("ann")) as again:
            await again.subscribe("alerts")
        await eventually(lambda: len(client.sidecar.parts.clients) == 0)
        async with client.session.ws_connect("/ws/alerts", headers=bearer("ann")):
            async with client.session.ws_connect("/ws/alerts", headers=bearer("ann")) as second:
                code, reason = await read_close(second)
            assert (code, "connections" in reason) == (aiohttp.WSCloseCode.POLICY_VIOLATION, True)
