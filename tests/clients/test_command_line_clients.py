"""curl, wget and aria2c run a whole job, and download in parts and after an interruption."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from job.task import OutputFile, Result, Task
from tests.api.bodies import ended, frames_zip, submit
from tests.inline_executors import Events, FinishesAtOnce
from tests.servers import ThreadServer, thread_server

SIZE = 9_000_001
"""Bytes of the file: aria2c takes eight connections only for more than eight MB."""
PART = 3_000_001


class WritesALargeFile(FinishesAtOnce):
    """Random bytes: a piece in the wrong place is noticed."""

    def attempt(self, task: Task) -> Events:
        """One file."""
        self.tasks.append(task)
        task.workspace.mkdir()
        content = os.urandom(SIZE)
        (task.workspace / "meshes.zip").write_bytes(content)
        file = OutputFile("meshes.zip", SIZE, hashlib.sha256(content).hexdigest())
        yield Result(
            files=(file,),
            mesh={"timesteps": 1, "vertices": 8, "faces": 12, "fps": 16.0},
            source={"width": 32, "height": 32, "frames": 16, "fps": 16.0, "used": [0]},
            timings={},
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    """Its jobs are finished at once."""
    folder = tmp_path_factory.mktemp("downloads") / "jobs"
    with thread_server(folder, WritesALargeFile()) as running:
        yield running


@pytest.fixture(scope="module")
def address(server: ThreadServer) -> str:
    """Of the large file of a finished job."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http:
        job_id = submit(http)
        assert ended(http, job_id)["status"] == "finished"
    return f"{server.url}/outputs/{job_id}/meshes.zip"


def run(program: str, *options: str, folder: Path) -> str:
    """What it prints; skips where it is not installed, fails if its exit code is not 0."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    done = subprocess.run(
        [program, *options], cwd=folder, env={**os.environ, "no_proxy": "127.0.0.1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sha256(address: str) -> str:
    """As the job's list of files says."""
    job_id = address.split("/")[-2]
    job = httpx.get(f"{address.partition('/outputs')[0]}/jobs/{job_id}", trust_env=False).json()
    return str(job["files"][0]["sha256"])


def is_whole(path: Path, address: str) -> bool:
    """True if these are the bytes of the job's file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() == sha256(address)


@pytest.fixture
def part(address: str, tmp_path: Path) -> Path:
    """The beginning of the file, as an interrupted download leaves it."""
    whole = httpx.get(address, trust_env=False).content
    path = tmp_path / "meshes.zip"
    path.write_bytes(whole[:PART])
    return path


def test_aria2c_downloads_with_eight_connections(address: str, tmp_path: Path) -> None:
    eight = ("-x8", "-s8", "-k1M", "--file-allocation=none", "--no-conf=true")
    run("aria2c", *eight, "--out=found.zip", address, folder=tmp_path)
    assert is_whole(tmp_path / "found.zip", address)


def test_wget_continues_a_download(address: str, part: Path) -> None:
    for _ in range(2):  # the second time there is nothing to do
        run("wget", "--no-verbose", "--continue", address, folder=part.parent)
        assert is_whole(part, address)


def test_curl_continues_a_download(address: str, part: Path) -> None:
    run("curl", "-sS", "--fail", "-C", "-", "-O", address, folder=part.parent)
    assert is_whole(part, address)


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
def test_curl_runs_a_whole_job(server: ThreadServer, tmp_path: Path, version: str) -> None:
    def curl(path: str, *options: str) -> str:
        return run(
            "curl", "-sS", "--fail-with-body", version, *options, server.url + path, folder=tmp_path
        )

    (tmp_path / "walk.zip").write_bytes(frames_zip())
    job_id = json.loads(curl("/jobs", "-F", "file=@walk.zip", "-F", "mode=fast"))["job_id"]
    job = json.loads(curl(f"/jobs/{job_id}?wait=50"))
    assert job["status"] == "finished"
    assert "event: done" in curl(f"/jobs/{job_id}/events")
    curl(f"/outputs/{job_id}/meshes.zip", "-o", "found.zip")
    assert is_whole(tmp_path / "found.zip", f"{server.url}/outputs/{job_id}/meshes.zip")
    if version == "--http1.1":  # the others look like a proxy's requests: for them it is closed
        assert job_id in curl("/jobs")
    again = json.loads(curl(f"/jobs/{job_id}/retry", "-X", "POST"))["job_id"]
    for each in (job_id, again):
        assert json.loads(curl(f"/jobs/{each}", "-X", "DELETE"))["status"] == "deleted"
