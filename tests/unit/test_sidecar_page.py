"""The built page: served compressed and from memory, with names that hold the content, and nothing else."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.market.timeframes import TIMEFRAMES
from app.sidecar.http.middlewares import errors_as_json
from app.sidecar.http.openapi import openapi_document
from app.sidecar.http.page import PageFiles
from app.sidecar.live.client_messages import parse_message
from app.sidecar.rest.metrics_json import FIELD_NAMES

INDEX, SCRIPT, LICENCES = b"<!doctype html>", b"console.log('\xc3\xa9')", b"==== preact (MIT)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (
        ("index.html", INDEX),
        ("main-ABCDEFG1.js", SCRIPT),
        ("licences.txt", LICENCES),
        ("sources.sha256", b"abc"),
    ):
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    return tmp_path


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    page = PageFiles(folder)
    app = web.Application(middlewares=[errors_as_json()])
    app.router.add_get("/", page.index)
    app.router.add_get("/page/{name}", page.part)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


async def test_a_part_comes_compressed_and_is_kept_for_a_year_because_its_name_holds_its_content(folder):
    async with served(folder) as client:
        packed = await client.get("/page/main-ABCDEFG1.js", headers={"Accept-Encoding": "br, gzip"})
        plain = await client.get("/page/main-ABCDEFG1.js", headers={"Accept-Encoding": "identity"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await packed.read()) == SCRIPT == await plain.read()
        assert "immutable" in packed.headers["Cache-Control"]
        assert packed.headers["Vary"] == "Accept-Encoding"
        assert packed.headers["Content-Type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", ["/", "/page/licences.txt"])
async def test_what_changes_under_one_name_is_asked_for_again_and_sent_only_if_it_changed(folder, path):
    async with served(folder) as client:
        first = await client.get(path)
        assert first.headers["Cache-Control"] == "no-cache"
        again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")


async def test_the_policy_of_the_page_allows_its_own_files_and_nothing_else(folder):
    async with served(folder) as client:
        policy = (await client.get("/")).headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize("name", ["sources.sha256", "main-ABCDEFG1.js.gz", "..%2Fsecret", "nothing.js"])
async def test_files_that_are_no_part_of_the_page_are_not_there(folder, name):
    (folder.parent / "secret").write_text("a secret")
    async with served(folder) as client:
        assert (await client.get(f"/page/{name}")).status == 404


async def test_without_a_built_page_the_answer_says_how_to_build_it(tmp_path):
    async with served(tmp_path / "built") as client:
        answer = await client.get("/")
        assert answer.status == 503
        assert "make page" in (await answer.json())["message"]


SOURCES = Path(__file__).parents[2] / "app/sidecar/page/src"


def source_texts() -> str:
    return "\n".join(file.read_text() for file in sorted(SOURCES.rglob("*.ts*")))


def test_the_page_makes_no_markup_of_what_it_is_sent():
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    assert not re.search(forbidden, source_texts())


def test_every_address_the_page_asks_is_one_of_the_sidecar():
    asked = set(re.findall(r"\"(api/[a-z-]+)", source_texts()))
    assert {f"/{path}" for path in asked} <= set(openapi_document()["paths"])
    assert len(asked) >= 6


def test_the_page_subscribes_to_every_metric_in_words_the_sidecar_understands():
    table = (SOURCES / "symbols/metric_table.ts").read_text()
    fields = sorted({*re.findall(r"field: \"(\w+)\"", table)})
    assert set(fields) == set(FIELD_NAMES)
    said = {"type": "subscribe", "channel": "metrics", "timeframes": [*TIMEFRAMES], "fields": fields}
    parse_message(orjson.dumps(said).decode())
    timeframes = re.search(r"TIMEFRAMES = \[(.*?)\]", (SOURCES / "client/types.ts").read_text())
    assert timeframes
    assert re.findall(r"\"(\w+)\"", timeframes[1]) == [*TIMEFRAMES]
