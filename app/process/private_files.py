"""Directories, files and secrets that no other user of the machine may read, write, or hold."""

from __future__ import annotations

import os
import pwd
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from app.errors import ServerError

_ENTERED_BY_OTHERS = os.geteuid() == 0 and sys.platform != "linux"
"""Whether root's servers run as another user who cannot be given the right to enter any folder."""
PRIVATE_MODE = 0o711 if _ENTERED_BY_OTHERS else 0o700
_SIGNING_FILE: Final = "token-secret"
_SIGNING_BYTES: Final = 48
_PASSWORD_BYTES: Final = 24


def make_private(directory: Path) -> None:
    """Make `directory` private, with everything in it that an earlier version left open to others.

    Raises ServerError if it is another user's: its content could not be trusted.
    """
    directory.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
    found = directory.stat()
    if os.geteuid() not in (0, found.st_uid):
        raise ServerError(
            f"{directory} belongs to the user {name_of(found.st_uid)}; "
            "remove it, or set SCREENER_DATA_DIR to your own directory"
        )
    if stat.S_IMODE(found.st_mode) == PRIVATE_MODE:
        return
    # first, so that no other user opens a file below while it is being closed
    directory.chmod(PRIVATE_MODE)
    for folder, folders, files in os.walk(directory):
        if Path(folder).parent == directory and "PG_VERSION" not in files:
            # PostgreSQL's own directory is closed already
            folders[:] = [name for name in folders if not (Path(folder) / name / "PG_VERSION").exists()]
        for name in folders:
            _close(Path(folder) / name, PRIVATE_MODE)
        for name in files:
            _close(Path(folder) / name, 0o600)


def _close(path: Path, mode: int) -> None:
    # files removed meanwhile, and links, whose targets are not ours to change
    if not path.is_symlink():
        with suppress(FileNotFoundError):
            path.chmod(mode)


def write_private(file: Path, text: str) -> None:
    """Write a file that only we can read, completely or not at all."""
    passing = file.with_name(f"{file.name}.new")
    passing.unlink(missing_ok=True)
    with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    passing.replace(file)


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def password_in(directory: Path) -> str:
    """Return the password of the server in `directory`, made at its first start."""
    return _kept_or_new(directory / "password", _PASSWORD_BYTES)


def token_secret_in(directory: Path) -> str:
    """Return the key of users' tokens on this machine, made once for a data directory, so that signing in works out
    of the box. `directory` exists and is ours."""
    return _kept_or_new(directory / _SIGNING_FILE, _SIGNING_BYTES)


def kept_token_secret(directory: Path) -> str | None:
    """Return the secret that `token_secret_in` made; None if there is none yet."""
    return _kept(directory / _SIGNING_FILE)


def _kept_or_new(file: Path, random_bytes: int) -> str:
    secret = _kept(file)
    if secret is None:
        secret = secrets.token_urlsafe(random_bytes)
        write_private(file, secret)
    return secret


def _kept(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except FileNotFoundError:
        return None
