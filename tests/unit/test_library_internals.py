"""The parts of libraries that are not public, which the code uses all the same, are there in the installed versions."""

from __future__ import annotations

import ast
import asyncio
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiohttp import ClientSession, web
from aiohttp.web_protocol import RequestHandler
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from faust.exceptions import PartitionsMismatch
from faust.transport.consumer import Consumer as AnyConsumer
from faust.transport.drivers.aiokafka import Consumer, Producer
from faust.types import TP
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from prometheus_client import CollectorRegistry, Counter, Histogram

from app import library_internals
from app.library_internals import (
    HookedRunner,
    any_bytes_client,
    bucket_bounds,
    client_of_producer,
    close_client,
    committed_offset,
    filter_recovery,
    handler_options,
    is_upgraded,
    label_names,
    reads_head,
    rearm_expiry,
    send_to_node,
    server_loop,
    snapshot_consumer,
    write_whole,
    writes_whole,
)

ROOT = Path(__file__).resolve().parents[2]


def test_prometheus_client_tells_labels_and_buckets_of_a_family_without_samples():
    registry = CollectorRegistry()
    assert label_names(Counter("a", "text", ["x", "y"], registry=registry)) == ("x", "y")
    assert bucket_bounds(Histogram("b", "text", ["x"], buckets=(0.5, 2), registry=registry)) == [0.5, 2.0]


async def test_an_aiohttp_server_has_a_loop_and_options_that_make_a_handler():
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response()

    server = web.Server(answer, keepalive_timeout=7.0)
    assert server_loop(server) is asyncio.get_running_loop()
    assert handler_options(server) == {"keepalive_timeout": 7.0}
    handler = RequestHandler(server, loop=server_loop(server), **handler_options(server))
    assert not reads_head(handler)
    assert not is_upgraded(handler)


class Runner(HookedRunner):
    __slots__ = ("seen",)

    async def replace_server(self, made: web.Server) -> web.Server:
        self.seen: list[str] = ["made"]
        return made

    async def before_cleanup(self) -> None:
        self.seen.append("cleanup")


async def test_an_aiohttp_runner_calls_both_hooks_and_a_handler_shows_where_its_connection_is():
    inside: list[tuple[bool, bool]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        handler: Any = request.protocol
        inside.append((reads_head(handler), is_upgraded(handler)))
        socket = web.WebSocketResponse()
        if not socket.can_prepare(request).ok:
            return web.Response()
        await socket.prepare(request)
        await socket.send_str("open")
        await socket.receive()
        inside.append((reads_head(handler), is_upgraded(handler)))
        return socket

    app = web.Application()
    app.router.add_get("/", answer)
    runner = Runner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 200
        assert runner.server is not None
        idle: list[Any] = runner.server.connections
        assert [(reads_head(one), is_upgraded(one)) for one in idle] == [(True, False)]
        async with session.ws_connect(url) as socket:
            await socket.receive_str()
    await runner.cleanup()
    assert inside == [(False, False), (False, True), (False, True)]
    assert runner.seen == ["made", "cleanup"]


async def test_an_aiokafka_consumer_has_a_client_that_can_be_closed():
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    assert isinstance(consumer._client, AIOKafkaClient)
    await close_client(consumer)
    consumer._closed = True  # reason: it was never started, so that nothing else is to be stopped


async def test_an_aiokafka_admin_client_sends_a_request_to_a_node_and_gives_its_answer(monkeypatch):
    async def ready(_: AIOKafkaClient, node: int) -> bool:
        return node == 3

    async def send(_: AIOKafkaClient, node: int, request: Any) -> tuple[int, Any]:
        return node, request

    monkeypatch.setattr(AIOKafkaClient, "ready", ready)
    monkeypatch.setattr(AIOKafkaClient, "send", send)
    admin = AIOKafkaAdminClient(bootstrap_servers="127.0.0.1:1")
    request: Any = object()
    assert await send_to_node(admin, 3, request) == (3, request)
    await admin.close()


def test_a_faust_producer_holds_the_client_below_it():
    assert "_producer" in vars(Producer)
    assert client_of_producer(SimpleNamespace(_producer="client")) == "client"


def test_a_faust_consumer_remembers_committed_offsets_and_fetches_by_the_method_that_is_replaced():
    assert "_committed_offset" in AnyConsumer.__annotations__
    known = SimpleNamespace(_committed_offset={TP("topic", 0): 5})
    assert (committed_offset(known, TP("topic", 0)), committed_offset(known, TP("topic", 1))) == (5, None)
    assert list(inspect.signature(Consumer._getmany).parameters) == ["self", "active_partitions", "timeout"]
    assert "await self._getmany(" in inspect.getsource(AnyConsumer)


async def test_the_consumer_fetches_from_a_copy_of_the_partitions(monkeypatch):
    asked: list[Any] = []

    async def getmany(_: Any, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109  # reason: Faust's
        asked.append(active_partitions)

    monkeypatch.setattr(Consumer, "_getmany", getmany)
    fetch: Any = snapshot_consumer()._getmany
    consumer = object.__new__(snapshot_consumer())
    active = {TP("topic", 0)}
    made = type(consumer)
    await made._getmany(consumer, active, 1.0)
    await made._getmany(consumer, None, 1.0)
    active.clear()
    assert asked == [{TP("topic", 0)}, None]
    assert fetch is not getmany


def test_a_table_may_be_written_before_the_consumer_knows_its_changelog():
    app = faust.App("internals", broker="kafka://127.0.0.1:1", store="memory://")
    table = app.Table("t", value_type=bytes, partitions=2)
    known = {"source": 2, table.changelog_topic_name: 0}
    consumer: Any = object.__new__(snapshot_consumer())
    consumer._thread = SimpleNamespace(topic_partitions=known.get)
    app._consumer = consumer
    table._verify_source_topic_partitions("source")

    known[table.changelog_topic_name] = 3
    table._verified_source_topics_for_partitions.clear()
    with pytest.raises(PartitionsMismatch):
        table._verify_source_topic_partitions("source")


def test_a_windowed_faust_table_takes_a_key_into_its_expiry_index():
    app = faust.App("internals", broker="kafka://127.0.0.1:1", store="memory://")
    table = app.Table("t", value_type=bytes, partitions=2).tumbling(60, expires=3600).table
    rearm_expiry(table, ("1", (60.0, 119.9)), 1)
    assert dict(table._partition_timestamp_keys) == {(1, 119.9): {table._to_key(("1", (60.0, 119.9)))}}


def test_a_recovering_faust_table_applies_the_wanted_records_only():
    app = faust.App("internals", broker="kafka://127.0.0.1:1", store="memory://")
    table = app.Table("t", value_type=bytes, partitions=1)
    filter_recovery(table, lambda batch: [event for event in batch if event.value != b"old"])
    message = SimpleNamespace(partition=0, value=b"")
    records = [SimpleNamespace(key=b"k", value=value, message=message) for value in (b"new", b"old")]
    table.apply_changelog_batch(records)
    assert table.data[b"k"] == b"new"


async def test_a_nats_client_takes_many_messages_at_once():
    assert writes_whole(Client)
    assert not writes_whole(type("Other", (), {}))
    client = Client()
    client._flush_queue = asyncio.Queue(4)
    flushed = asyncio.create_task(client._flush_queue.get())
    await asyncio.wait_for(write_whole(client, b"PUB a 1\r\nx\r\n"), 5)
    assert client._pending == [b"PUB a 1\r\nx\r\n"]
    flushed.cancel()


@pytest.mark.parametrize("mark", [b"\x0b", b"\x0c", b"\xff"])
async def test_a_nats_client_reads_a_message_with_any_bytes_in_its_subject(mark: bytes):
    client = any_bytes_client()()
    read: list[Msg] = []
    client._subs[7] = subscription = Subscription(client, 7)
    await client._ps.parse(
        b"MSG a%b5 7 to 2\r\nhi\r\nHMSG a%b5 7 11 13\r\nNATS/1.0 \xff\xfeyo\r\n" % (mark, mark)
    )
    while not subscription._pending_queue.empty():
        read.append(subscription._pending_queue.get_nowait())
    subject = f"a{mark.decode('utf-8', 'backslashreplace')}5"
    assert [(one.subject, one.reply, one.data) for one in read] == [
        (subject, "to", b"hi"),
        (subject, "", b"yo"),
    ]


def test_no_other_module_uses_what_this_one_names():
    """The names stand in this module's own code: read from there, so that none can be forgotten."""
    home = Path(library_internals.__file__)
    names = {
        node.attr
        for node in ast.walk(ast.parse(home.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_")
    }
    assert len(names) > 10
    for package in ("app", "agents", "tables"):
        for path in (ROOT / package).rglob("*.py"):
            if path == home:
                continue
            used = [
                f"{path}:{node.lineno}: {ast.unparse(node)}"
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Attribute)
                and node.attr in names | {"_value"}
                and ast.unparse(node.value) not in {"self", "cls"}
            ]
            assert used == []


DOCUMENTED = {"os._exit", "sys._current_frames"}
"""Public in spite of their names."""
OF_NAMED_TUPLES = {"_make", "_replace", "_asdict", "_fields"}
"""Public too: the underscore keeps them apart from the names of fields."""


def private_reaches(module: ast.Module) -> list[str]:
    """What the module uses of others by a name that begins with an underscore; its own classes are not others."""
    own = {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if is_private(alias.name)]
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            holder, name = ast.unparse(node.value), ast.unparse(node)
            public = name in DOCUMENTED or node.attr in OF_NAMED_TUPLES
            if holder not in {"self", "cls", "super()"} and not public and node.attr not in own:
                found.append(name)
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_module_reaches_into_what_is_private_of_another():
    home = Path(library_internals.__file__)
    paths = [path for package in ("app", "agents", "tables") for path in (ROOT / package).rglob("*.py")]
    found = {
        path.relative_to(ROOT): private_reaches(ast.parse(path.read_text())) for path in paths if path != home
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_a_reach_into_another_module_is_seen():
    module = ast.parse(
        "from app.x import _hidden\nimport os\ndef f(self, other):\n    other._state\n    self._mine\n    os._exit(1)\n"
    )
    assert private_reaches(module) == ["_hidden", "other._state"]
