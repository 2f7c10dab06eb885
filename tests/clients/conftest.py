"""A server whose jobs take some seconds, and the tools that clients are made with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ProcessServer, process_server
from tests.video.clips import numbered


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder in which .ci/run installed the generators: a Python environment and npm's."""
    folder = os.environ.get("CLIENT_TOOLS", "")
    if not folder:
        pytest.skip("CLIENT_TOOLS names no folder of openapi-python-client and openapi-typescript")
    return Path(folder)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    """Its jobs can be cancelled at each of their steps."""
    folder = tmp_path_factory.mktemp("worker")
    with process_server(folder, PIPELINE="tests.pipelines:SpecksSlowly") as running:
        yield running


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen frames."""
    return numbered(tmp_path_factory.mktemp("clips") / "clip.mp4", 16)


@pytest.fixture(scope="module")
def finished(worker: ProcessServer, clip: Path) -> dict[str, Any]:
    """A job with its files, among them a large one."""
    with httpx.Client(base_url=worker.url, trust_env=False, timeout=90) as http:
        sent = http.post("/jobs", files={"file": (clip.name, clip.read_bytes())})
        job: dict[str, Any] = http.get(sent.headers["location"], params={"wait": 55}).json()
    assert job["status"] == "finished", job
    return job
