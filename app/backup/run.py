"""A whole backup, and a whole restore."""

from __future__ import annotations

import asyncio
import shutil
from importlib.metadata import version
from pathlib import Path

from app.backup import database, keys, stream
from app.backup.manifest import FORMAT, Manifest, digests, read_manifest
from app.clock import Clock
from app.errors import BackupUnusable, RestoreRefused
from app.settings import Settings

_PARTS = ("postgres", "nats", "redis")


async def back_up(settings: Settings, directory: Path, clock: Clock) -> Manifest:
    """Writes a backup to `directory`, which must not exist; the roles may go on meanwhile.

    The stream is taken first: a candle that arrives while the others are taken is then in the database and perhaps
    not in the stream, never the other way round. Raises BackupUnusable if the place is taken or nothing is there
    to back up, ServerUnreachable if a server does not answer; nothing is left behind then.
    """
    unfinished = _begin(directory)
    try:
        found = await stream.dump(settings, unfinished / "nats")
        rows, applied = await asyncio.to_thread(database.dump, settings, unfinished / "postgres")
        count = await keys.dump(settings, unfinished / "redis")
        manifest = Manifest(
            format=FORMAT,
            screener_version=version("screener"),
            created_ts_ms=clock.now_ms(),
            namespace=settings.namespace,
            migrations=applied,
            rows=rows,
            stream=found,
            keys=count,
            files=digests(unfinished),
        )
        manifest.write(unfinished)
        unfinished.rename(directory)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return manifest


def _begin(directory: Path) -> Path:
    """An empty directory beside the wanted one, with its parts; only the owner may look into it."""
    if directory.exists():
        raise BackupUnusable(f"{directory} exists already: give a directory that does not")
    unfinished = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, mode=0o700)
    for part in _PARTS:
        (unfinished / part).mkdir()
    return unfinished


async def bring_back(settings: Settings, directory: Path, *, overwrite: bool = False) -> Manifest:
    """Restores a backup into the namespace it is of. Stop every role before.

    overwrite: replace what is there; without it anything there is a reason to refuse. Checks the whole backup and
    all servers first. Raises BackupUnusable, RestoreRefused, SchemaTooNew or ServerUnreachable. A restore that broke
    off can be repeated with `overwrite`.
    """
    manifest = await asyncio.to_thread(read_manifest, directory)
    if manifest.namespace != settings.namespace:
        raise RestoreRefused(
            f"the backup is of the namespace {manifest.namespace!r}, the settings are of {settings.namespace!r}: "
            "set SCREENER_NAMESPACE to that of the backup"
        )
    if not overwrite:
        await asyncio.to_thread(database.refuse_if_filled, settings)
        await stream.refuse_if_there(settings)
    await asyncio.to_thread(
        database.restore, settings, directory / "postgres", manifest.rows, manifest.migrations
    )
    if manifest.stream is not None:
        await stream.restore(settings, directory / "nats", manifest.stream)
    await keys.restore(settings, directory / "redis")
    return manifest
