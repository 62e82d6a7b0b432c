"""Podman or Docker, by its command line."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CONFINED = (
    *("--read-only", "--tmpfs", "/tmp", "--volume", "/var/lib/screener"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
MOST = 32_768
"""The highest limit of files and of processes for one container: more than a role needs."""
INDEXES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "NPM_CONFIG_REGISTRY")
CERTIFICATE = "/run/secrets/ca"


@dataclass(frozen=True, slots=True)
class Engine:
    program: str

    @classmethod
    def found(cls) -> Engine:
        """Return the engine that ENGINE names, else podman or docker. Ends this program where none answers."""
        for name in filter(None, (os.environ.get("ENGINE"), "podman", "docker")):
            program = shutil.which(name)
            if (
                program
                and subprocess.run([program, "info"], check=False, capture_output=True).returncode == 0
            ):
                return cls(program)
        sys.exit("no container engine answers: install podman (Debian: podman runc), or start docker")

    def run(self, *arguments: str | Path, environ: Mapping[str, str] | None = None) -> str:
        """Run the engine and return its stdout. Raises RuntimeError with its output if it fails. environ: additional
        variables."""
        done = subprocess.run(
            [self.program, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | (environ or {}),
        )
        if done.returncode:
            raise RuntimeError(f"{self.program} {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def build(self, dockerfile: Path, context: Path, tag: str, base: str | None) -> None:
        """Build an image and show the output. The package indexes and the certificate to trust come from this process's
        variables."""
        arguments = ["--network", "host", "--file", str(dockerfile), "--tag", tag]
        given = {"BASE": base} | {name: os.environ.get(name) for name in INDEXES}
        certificate = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
        if certificate:
            arguments += ["--secret", f"id=ca,src={certificate}"]
            given |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), CERTIFICATE)
        for name, value in given.items():
            arguments += ["--build-arg", f"{name}={value}"] if value else []
        subprocess.run([self.program, "build", *self._limits(), *arguments, str(context)], check=True)

    def start(self, name: str, image: str, environ: Mapping[str, str], command: Sequence[str]) -> None:
        """Run a container in the background, without rights, on this machine's network."""
        # only names are arguments, which keeps passwords out of the list of processes and out of errors
        variables = [part for variable in environ for part in ("--env", variable)]
        options = (*CONFINED, *self._limits(), "--network", "host", *variables)
        self.run("run", "--detach", "--name", name, *options, image, *command, environ=environ)

    def log(self, name: str) -> str:
        """Return the end of a container's output, stdout and stderr."""
        command = [self.program, "logs", "--tail", "40", name]
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout

    def size_bytes(self, image: str) -> int:
        """Return the size of an image, which is pulled if it is not here."""
        present = [self.program, "image", "inspect", image]
        if subprocess.run(present, check=False, capture_output=True).returncode:
            self.run("pull", image)
        return int(self.run("image", "inspect", "--format", "{{.Size}}", image))

    def _limits(self) -> tuple[str, ...]:
        """Return limits no higher than ours: an engine without the right to raise them could start no container."""
        named = (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
        limits = {name: min(resource.getrlimit(which)[1], MOST) for name, which in named}
        pairs = [("--ulimit", f"{name}={most}:{most}") for name, most in limits.items() if most > 0]
        return tuple(part for pair in pairs for part in pair)
