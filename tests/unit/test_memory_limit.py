"""The memory that a process may take, by the files of control groups."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from app.process.health.memory_limit import memory_limit_bytes


@pytest.mark.parametrize(
    ("own", "files", "limit_bytes"),
    [
        ("0::/\n", {"memory.max": "536870912"}, 536870912),
        ("0::/s/screener\n", {"s/memory.max": "1000", "s/screener/memory.max": "max"}, 1000),
        ("0::/a/b\n", {"a/memory.max": "2000", "a/b/memory.max": "1000"}, 1000),
        ("5:cpu:/x\n4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "3000"}, 3000),
        ("0::/\n", {"memory.max": "max"}, None),
        ("0::/\n", {"memory.max": "9223372036854771712"}, None),
        ("0::/gone\n", {}, None),
    ],
)  # fmt: skip
def test_the_least_limit_counts_and_the_machine_where_there_is_none(
    tmp_path: Path, own: str, files: dict[str, str], limit_bytes: int | None
):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    expected = limit_bytes or psutil.virtual_memory().total
    assert memory_limit_bytes(tmp_path / "cgroup", tmp_path / "own") == expected


def test_a_system_without_control_groups_has_its_memory(tmp_path: Path):
    assert memory_limit_bytes(tmp_path, tmp_path / "none") == psutil.virtual_memory().total
