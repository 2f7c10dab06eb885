"""deploy/modal_app.py against Modal's own package, in its own process: no account needed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from main import create_app
from settings import Settings
from tests.servers import ROOT

needs_modal = pytest.mark.skipif(
    importlib.util.find_spec("modal") is None,
    reason="modal is not installed (requirements/deploy.txt)",
)

LOOK = """
import json, os, sys
from pathlib import Path
import modal, deploy.modal_app as ours
sent = ~modal.FilePatternMatcher(*ours.CODE)
names = sys.stdin.read().split()
app = ours.web.local()
print(json.dumps({
    "app": ours.app.name,
    "kept_out": [name for name in names if sent(Path(name))],
    "routes": sorted(app.openapi()["paths"]),
    "key_needed": app.state.app_state.settings.require_auth,
}))
"""


@needs_modal
def test_the_app_builds_and_serves_our_routes(tmp_path: Path) -> None:
    names = [
        "main.py", "api/jobs.py", "appearance/fit.py", "subject/find.py",
        "web/vendor/three.module.js", "deploy/modal_app.py", ".env", "tests/servers.py",
        "jobs/a/input", ".git/config", "requirements.txt",
    ]  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK],
        cwd=ROOT,
        input="\n".join(names),
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "API_KEY": "k" * 20,
             "PIPELINE": "silhouette", "JOBS_DIR": str(tmp_path / "jobs")},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert report["app"] == "actionmesh-worker" and report["key_needed"]
    assert report["kept_out"] == names[6:]
    assert report["routes"] == sorted(
        create_app(Settings(pipeline="silhouette")).openapi()["paths"]
    )


def test_it_takes_the_same_upstream_commit_as_the_image() -> None:
    app, dockerfile = ((ROOT / name).read_text() for name in ("deploy/modal_app.py", "Dockerfile"))
    commit = app.split('COMMIT = "')[1][:40]
    assert f"ACTIONMESH_COMMIT={commit}" in dockerfile
