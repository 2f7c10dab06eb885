"""Clients that other tools generate from /openapi.json run a whole job against a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.servers import ProcessServer

HERE = Path(__file__).parent
TSC = (
    "--strict", "--noUncheckedIndexedAccess", "--module", "nodenext", "--target", "es2022",
    "--types", "node", "--lib", "es2023",
)  # fmt: skip


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Its output; fails with it if the exit code is not 0."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "NO_PROXY": "127.0.0.1", **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture
def folder(worker: ProcessServer, tmp_path: Path) -> Path:
    """An empty folder with the server's openapi.json."""
    document = httpx.get(f"{worker.url}/openapi.json", trust_env=False)
    (tmp_path / "openapi.json").write_bytes(document.content)
    return tmp_path


def test_openapi_python_client(
    tools: Path, folder: Path, worker: ProcessServer, clip: Path
) -> None:
    programs = tools / "bin"
    if not (programs / "openapi-python-client").exists():
        pytest.skip("no openapi-python-client in CLIENT_TOOLS")
    output = run(
        programs / "openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none",
        "--config", HERE / "openapi_python_client.yml", "--output-path", "worker_client",
        "--fail-on-warning",
        folder=folder, PATH=f"{programs}:{os.environ['PATH']}",
    )  # fmt: skip
    assert "warning" not in output.lower()
    run(programs / "python", HERE / "whole_job.py", worker.url, clip,
        folder=folder, PYTHONPATH=str(folder))  # fmt: skip


def test_openapi_typescript(tools: Path, folder: Path, worker: ProcessServer, clip: Path) -> None:
    programs = tools / "node_modules" / ".bin"
    if not (programs / "openapi-typescript").exists() or not shutil.which("node"):
        pytest.skip("no node, or no openapi-typescript in CLIENT_TOOLS")
    (folder / "node_modules").symlink_to(tools / "node_modules")
    (folder / "package.json").write_text(json.dumps({"type": "module"}))
    shutil.copy(HERE / "whole_job.ts", folder)
    run(programs / "openapi-typescript", "openapi.json", "--output", "api.d.ts", folder=folder)
    run(programs / "tsc", *TSC, "whole_job.ts", folder=folder)
    run("node", "whole_job.js", worker.url, clip, folder=folder)
