"""A whole backup, and a whole restore."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

from app.backup import database, keys, stream
from app.backup.manifest import FORMAT, Manifest, digests, read_manifest
from app.clock import Clock
from app.errors import BackupUnusable, RestoreRefused
from app.settings.access import AllServers

_PARTS = ("postgres", "nats", "redis")


async def back_up(servers: AllServers, directory: Path, clock: Clock) -> Manifest:
    """Write a backup to `directory`, which must not exist; the roles may continue meanwhile.

    The stream comes first: a candle that arrives during the backup may then be in the database and not in the
    stream, never the other way round. Raises BackupUnusable if the directory exists or there is nothing to back up,
    ServerUnreachable if a server does not answer; nothing is left behind then.
    """
    unfinished = _begin(directory)
    try:
        found = await stream.dump(servers.nats, unfinished / "nats")
        rows, applied = await database.dump(servers.postgres, unfinished / "postgres")
        count = await keys.dump(servers.redis, unfinished / "redis")
        manifest = Manifest(
            format=FORMAT,
            screener_version=version("screener"),
            created_ts_ms=clock.now_ms(),
            namespace=servers.nats.namespace.prefix,
            migrations=applied,
            rows=rows,
            stream=found,
            keys=count,
            files=await digests(unfinished),
        )
        manifest.write(unfinished)
        unfinished.rename(directory)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return manifest


def _begin(directory: Path) -> Path:
    """Return a new directory beside the wanted one, with empty folders for the parts; only the owner may enter it."""
    if directory.exists():
        raise BackupUnusable(f"{directory} already exists: give a new directory")
    unfinished = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, mode=0o700)
    for part in _PARTS:
        (unfinished / part).mkdir()
    return unfinished


async def bring_back(servers: AllServers, directory: Path, *, overwrite: bool = False) -> Manifest:
    """Restore a backup into its namespace. Stop every role before.

    overwrite: replace existing data; without it any existing data makes the restore fail. Checks the whole backup and
    all servers first. Raises BackupUnusable, RestoreRefused, SchemaTooNew or ServerUnreachable. A restore that broke
    off can be repeated with `overwrite`.
    """
    manifest = await read_manifest(directory)
    namespace = servers.nats.namespace.prefix
    if manifest.namespace != namespace:
        raise RestoreRefused(
            f"the backup is of the namespace {manifest.namespace!r}, the settings are of {namespace!r}: "
            "set SCREENER_NAMESPACE to the namespace of the backup"
        )
    if not overwrite:
        await database.refuse_if_filled(servers.postgres)
        await stream.refuse_if_there(servers.nats)
    await database.restore(servers.postgres, directory / "postgres", manifest.rows, manifest.migrations)
    if manifest.stream is not None:
        await stream.restore(servers.nats, directory / "nats", manifest.stream)
    await keys.restore(servers.redis, directory / "redis")
    return manifest
