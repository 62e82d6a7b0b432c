"""Identity of a child process: the signal it gets when we die, and the user it becomes when we are root."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

# From <linux/prctl.h> and <linux/capability.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to become. `reach_everything` keeps root's right to enter any folder (Linux capability
    CAP_DAC_OVERRIDE), for programs and data in a folder closed to that user, for example /root."""

    uid: int
    gid: int
    reach_everything: bool = False


def unprivileged_identity(directory: Path, *others: Path) -> Identity | None:
    """Return the user for a program that refuses root: None if we are not root, else the owner of
    `directory`, or `nobody` when that is root too. It must be able to reach `directory` and `others`."""
    if os.geteuid() != 0:
        return None
    owner = directory.stat()
    if owner.st_uid != 0:
        uid, gid = owner.st_uid, owner.st_gid
    else:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
    closed = not all(_open_to_others(path) for path in (directory, *others))
    return Identity(uid, gid, reach_everything=closed and sys.platform == "linux")


def _open_to_others(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def prepare_child(
    parent_pid: int, death_signal: signal.Signals, identity: Identity | None
) -> Callable[[], None] | None:
    """Return the function to run in the child between fork and exec; None if not needed."""
    if sys.platform != "linux":
        return None if identity is None else lambda: _become(identity)

    def prepare() -> None:
        if identity is not None:
            if identity.reach_everything:
                _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
            _become(identity)
            if identity.reach_everything:
                _keep_reaching_everything()
        # After the change of user, which clears it.
        _check(_libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0))
        if os.getppid() != parent_pid:  # the parent died before the line above
            os._exit(1)

    return prepare


def _become(identity: Identity) -> None:
    os.setgroups([])
    os.setgid(identity.gid)
    os.setuid(identity.uid)


def _keep_reaching_everything() -> None:
    """Make CAP_DAC_OVERRIDE ambient, so that it survives the exec of an ordinary program."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << _CAP_DAC_OVERRIDE
    # Per 32 capabilities: effective, permitted, inheritable.
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)))
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
