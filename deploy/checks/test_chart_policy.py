"""checkov's rules for Kubernetes, over all renders at once: no rule may fail except those listed with a reason."""

from __future__ import annotations

import json
from pathlib import Path

from programs import run

EXCEPTED = {
    "CKV_K8S_11": "roles and servers have no CPU limit: throttling stops a process for tens of milliseconds in "
    "the middle of a market's close, which is when its latency counts; requests say what they need",
}
"""Rule -> why it does not apply."""


def test_no_policy_check_fails_on_any_render(render_folder: Path):
    command = [
        "--directory",
        render_folder,
        "--framework",
        "kubernetes",
        "--output",
        "json",
        "--compact",
        "--quiet",
    ]
    quiet = ["--skip-download", "--soft-fail", "--skip-check", ",".join(EXCEPTED)]
    said = run("checkov", *command, *quiet)
    report = json.loads(said[said.index("{") :])
    failed = {
        f"{check['check_id']} {check['check_name']}: {check['resource']} in {check['file_path']}"
        for check in report["results"]["failed_checks"]
    }
    assert not failed
    assert report["summary"]["passed"] > 10_000
    assert report["summary"]["parsing_errors"] == 0
