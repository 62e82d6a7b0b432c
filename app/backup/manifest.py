"""The manifest of a backup: enough to reject a damaged or foreign backup before any change."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import BackupUnusable

FORMAT: Final = 1
NAME: Final = "manifest.json"
_CHUNK_BYTES: Final = 16 * 1024 * 1024


class StreamSnapshot(BaseModel):
    """A stream in the server's own form: its configuration, and its state when the snapshot was taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: dict[str, object]
    state: dict[str, object]

    @property
    def name(self) -> str:
        return cast(str, self.config["name"])

    @property
    def messages(self) -> int:
        return cast(int, self.state["messages"])


class Manifest(BaseModel):
    """`files`: path within the backup -> SHA-256. `rows`: table -> rows. Times are UTC ms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    screener_version: str
    created_ts_ms: int
    namespace: str
    migrations: tuple[str, ...]
    """Migrations applied to the database, in order of name."""
    rows: dict[str, int]
    stream: StreamSnapshot | None
    """None without a stream."""
    keys: int
    files: dict[str, str]

    def write(self, directory: Path) -> None:
        (directory / NAME).write_bytes(orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2))


async def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a complete backup. Raises BackupUnusable for a directory without a valid manifest, of
    another format, or in which a file is missing or changed. A cancellation ends it between two chunks of a file."""
    try:
        manifest = Manifest.model_validate(orjson.loads((directory / NAME).read_bytes()))
    except FileNotFoundError as error:
        raise BackupUnusable(f"{directory} is not a backup: it has no {NAME}") from error
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise BackupUnusable(f"{directory / NAME} is damaged: {error}") from error
    if manifest.format != FORMAT:
        raise BackupUnusable(
            f"{directory} has format {manifest.format}, this screener reads {FORMAT}: restore it with the version "
            f"that made it ({manifest.screener_version})"
        )
    damaged = [
        name
        for name, digest in manifest.files.items()
        if not (directory / name).is_file() or await digest_of(directory / name) != digest
    ]
    if damaged:
        raise BackupUnusable(
            f"{directory} is damaged: {', '.join(damaged)} missing or changed; take another backup"
        )
    return manifest


async def digests(directory: Path) -> dict[str, str]:
    """Return path within the directory -> SHA-256, for every file in it."""
    return {str(path.relative_to(directory)): await digest_of(path) for path in _files(directory)}


async def digest_of(path: Path) -> str:
    digest = hashlib.sha256()

    def take_chunk(file: BinaryIO) -> bool:
        chunk = file.read(_CHUNK_BYTES)
        digest.update(chunk)
        return bool(chunk)

    with path.open("rb") as file:
        # a chunk at a time: a thread that hashes a whole file would outlive a cancellation
        while await asyncio.to_thread(take_chunk, file):
            pass
    return digest.hexdigest()


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())
