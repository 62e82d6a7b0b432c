"""Functions compiled to machine code by Numba: a typed interface to it, and the cache of compiled code.

`kernel` marks what Python calls, with arrays; `inlined` and `called` what kernels call. The first call of a kernel
imports Numba (half a second) and loads its machine code from the disk; if the disk has no code of these sources, it
compiles it (some ten seconds for all of the market). `python -m app.rules.ahead` does that once, in an image or after
an update.

Numba compiles for any CPU of the architecture: code that an image brings along fits wherever it runs. Division by zero
gives what IEEE 754 says, as in NumPy.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from functools import cache, wraps
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

from numpy.typing import NDArray

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PACKAGE: Final = Path(__file__).parent
KERNEL_FOLDERS: Final = ("market", "rules/evaluation")
"""Folders with kernels."""
_COMPLETE: Final = "complete"
"""Name of the file that marks a directory as having the machine code of every kernel."""
_unregistered: list[tuple[Callable[..., Any], bool]] = []
"""Functions that kernels may call and that are not yet registered with Numba; whether their machine code is put into
the caller's."""


def inlined(function: _Function) -> _Function:
    """Mark a function that kernels call: its machine code is part of theirs, since a call would hand over some fifty
    words for the rings alone. It neither makes nor returns arrays. Called from Python it stays a Python function."""
    _unregistered.append((function, True))
    return function


def called(function: _Function) -> _Function:
    """Mark a function like an `inlined` one, but whose loop over many rows is worth a call: on its own the compiler
    makes it faster."""
    _unregistered.append((function, False))
    return function


def prefetch(array: NDArray[Any], byte: int) -> None:
    """Ask the processor, in a kernel, for the line of memory with this byte of an array; Python does nothing. It waits
    for no memory, and a byte outside the array is no error."""


def kernel(function: _Function) -> _Function:
    """Mark a function that Python calls; its machine code is kept on the disk. It and the functions it calls make no
    arrays: they borrow the caller's, and no reference is counted at a call."""
    return _lazily(function, allocates=False)


def allocating_kernel(function: _Function) -> _Function:
    """Mark a kernel that makes arrays; the functions it calls make no arrays."""
    return _lazily(function, allocates=True)


def _lazily(function: _Function, allocates: bool) -> _Function:
    compiled: _Function | None = None

    @wraps(function)
    def call(*arguments: Any) -> Any:
        nonlocal compiled
        if compiled is None:
            compiled = _compiled(function, allocates)
        return compiled(*arguments)

    lazy: Any = call
    typed: _Function = lazy
    return typed


def _compiled(function: _Function, allocates: bool) -> _Function:
    # here: most commands compute nothing, and Numba takes long to import
    import numba
    from numba.extending import register_jitable

    _teach_prefetch()
    directory = _cache_directory()
    while _unregistered:
        callee, into_caller = _unregistered.pop()
        register_jitable(error_model="numpy", _nrt=False, forceinline=into_caller)(callee)
    compile_: Any = numba.njit
    compiled: _Function = compile_(function, error_model="numpy", cache=directory is not None, _nrt=allocates)
    return compiled


@cache
def _teach_prefetch() -> None:
    """Tell Numba, which has no such function, what `prefetch` is in machine code."""
    from llvmlite import ir  # type: ignore[import-untyped]  # reason: it has no types
    from numba.core import cgutils, types
    from numba.extending import intrinsic, overload

    number, address = ir.IntType(32), ir.IntType(8).as_pointer()
    to_read, to_all_caches, of_data = number(0), number(3), number(1)
    function: Any = cgutils.get_or_insert_function

    def line(_: Any, array: Any, byte: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            held = context.make_array(signature.args[0])(context, builder, arguments[0])
            wanted = builder.gep(builder.bitcast(held.data, address), [arguments[1]])
            kind = ir.FunctionType(ir.VoidType(), [address, number, number, number])
            builder.call(
                function(builder.module, kind, "llvm.prefetch.p0i8"),
                [wanted, to_read, to_all_caches, of_data],
            )
            return context.get_dummy_value()

        return types.void(array, types.int64), generate

    ask: Any = intrinsic(line)

    @overload(prefetch)
    def _(array: Any, byte: Any) -> Any:
        def asked(array: Any, byte: Any) -> Any:
            return ask(array, byte)

        return asked


@cache
def _stamp() -> str:
    """Return a hash of all sources of kernels: each kernel contains the code of the functions it calls."""
    digest = hashlib.sha256()
    paths = chain.from_iterable(sorted((_PACKAGE / folder).rglob("[!_]*.py")) for folder in KERNEL_FOLDERS)
    for path in [Path(__file__), *paths]:
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def is_complete() -> bool:
    """Return whether every kernel of these sources has been compiled."""
    directory = directory_of(os.environ.get("NUMBA_CACHE_DIR", ""))
    return directory is not None and (directory / _COMPLETE).exists()


def mark_complete() -> None:
    """Mark the directory as complete, after every kernel is compiled: it is valid even where it is read-only."""
    directory = _cache_directory()
    if directory is not None and _is_writable(directory):
        (directory / _COMPLETE).touch()


def directory_of(wanted: str) -> Path | None:
    """Return where machine code of these sources is kept: beside them if all was compiled ahead there, else under the
    `wanted` directory, if any, or in the user's cache, or beside the sources. None if none of these can be
    written."""
    beside, part = _PACKAGE / "__pycache__", Path("kernels") / _stamp()[:16]
    if not wanted and (beside / part / _COMPLETE).exists():
        return beside / part
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "screener"
    places = [Path(wanted)] if wanted else [user, beside]
    return next((place / part for place in places if _is_writable(place / part)), None)


def _is_writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


@cache
def _cache_directory() -> Path | None:
    """Set Numba up; return where it keeps machine code between processes, None if nowhere."""
    import numba
    from numba.core import event
    from numba.core.caching import UserProvidedCacheLocator

    config: Any = numba.config
    events: Any = event
    locator: Any = UserProvidedCacheLocator
    directory = directory_of(config.CACHE_DIR)

    class Sources(locator):  # type: ignore[misc]  # reason: Numba's class is untyped
        """Machine code is valid for the sources of all kernels, and may be read where nobody can write."""

        def __init__(self, function: Callable[..., Any], file: str) -> None:
            super().__init__(function, file)
            self._cache_path = str(directory)

        def ensure_cache_path(self) -> None:
            os.makedirs(self._cache_path, exist_ok=True)

        def get_source_stamp(self) -> str:
            return _stamp()

    class Announcement(event.Listener):
        def on_start(self, _: event.Event) -> None:
            logging.getLogger(__name__).warning(
                "compiling the market's computations: some ten seconds, once for this version"
            )
            events.unregister("numba:compile", self)

        def on_end(self, _: event.Event) -> None:
            """Do nothing."""

    events.register("numba:compile", Announcement())
    globals()[Sources.__name__] = Sources
    config.CACHE_DIR = "" if directory is None else str(directory)
    config.CACHE_LOCATOR_CLASSES = f"{__name__}.{Sources.__name__}"
    config.CPU_NAME, config.CPU_FEATURES = "generic", ""
    return directory
