"""The script that `helm test` runs, against a real sidecar."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.support.sidecar import prepare, running_sidecar

SCRIPT = Path(__file__).parents[2] / "deploy" / "helm" / "screener" / "files" / "tests" / "sidecar.py"


async def run_script(url: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        SCRIPT,
        env={"SIDECAR_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_it_passes_on_a_sidecar_that_is_well(settings):
    await prepare(settings)
    async with running_sidecar(settings) as client:
        code, said = await run_script(f"http://127.0.0.1:{client.sidecar.port}")
    assert code == 0, said
    assert "200 /api/health" in said
    assert "101 /ws/alerts" in said


async def test_it_fails_where_nothing_listens(unused_tcp_port):
    code, said = await run_script(f"http://127.0.0.1:{unused_tcp_port}")
    assert code == 1
    assert "Cannot connect" in said
