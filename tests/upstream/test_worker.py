"""The whole worker with a tiny ActionMesh: a clip is sent over HTTP, and GLBs are downloaded."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import pytest
import trimesh

from tests.servers import ProcessServer
from tests.upstream import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

WAIT_S = 500.0


@pytest.fixture
def server(cache: Path, start_server: Callable[..., ProcessServer]) -> ProcessServer:
    """A server whose child loads the tiny weights from HF_HOME."""
    return start_server(
        PIPELINE="tests.upstream.tiny_pipeline:TinyActionMesh",
        HF_HOME=str(cache.parent),
        CHILD_MEMORY_GB="24",  # what ActionMesh has without a setting
    )


def clip(path: Path) -> bytes:
    """A dark disc on white, 1.5 seconds, as mp4."""
    frames = tiny.clip_of(18, alpha=False, size=128).frames
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (128, 128))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path.read_bytes()


def finished(url: str, job_id: str) -> dict[str, Any]:
    """The job once it has ended."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        job: dict[str, Any] = httpx.get(f"{url}/jobs/{job_id}", timeout=10).json()
        if job["status"] not in ("queued", "running"):
            return job
        time.sleep(0.2)
    raise AssertionError(f"the job did not end in {WAIT_S} s")


@pytest.mark.timeout(600)
def test_a_clip_becomes_glbs(server: ProcessServer, tmp_path: Path) -> None:
    files = {"file": ("clip.mp4", clip(tmp_path / "clip.mp4"), "video/mp4")}
    form = {"mode": "fast_low_ram"}
    reply = httpx.post(f"{server.url}/jobs", files=files, data=form, timeout=30)
    assert reply.status_code == 202, reply.text
    job = finished(server.url, reply.json()["job_id"])
    assert job["status"] == "finished", (job, server.log.read_text()[-3000:])
    assert job["mesh"]["timesteps"] == 16
    assert {"background", "shape", "motion", "decoding", "exporting"} <= set(job["timings"])
    archive = httpx.get(server.url + job["outputs"]["archive"], timeout=30).content
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        names = members.namelist()
        assert len(names) == 16
        for name in (names[0], names[-1]):
            mesh = trimesh.load(
                io.BytesIO(members.read(name)), file_type="glb", force="mesh", process=False
            )
            assert len(mesh.faces) == job["mesh"]["faces"]
