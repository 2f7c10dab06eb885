"""`make demo` as a user runs it, and its checks on broken files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import Client
from examples.output_checks import InvalidOutput, check_outputs
from tests.servers import ROOT, ProcessServer
from tests.waiting import wait_until

DEMO = [sys.executable, "-m", "examples.demo"]
CLIP = ROOT / "examples" / "dancing_sprout.mp4"


def environment(**changes: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PIPELINE": "silhouette", **changes}


def server_of(output: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+(?=, ready)", output)
    assert found, output
    return found.group()


def assert_stopped(url: str) -> None:
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/health", timeout=2)


@pytest.mark.timeout(300)
def test_the_demo_makes_and_checks_everything(tmp_path: Path) -> None:
    # settings of another service on this machine must not affect the demo
    result = subprocess.run(
        [*DEMO, "--out", str(tmp_path), "--mode", "fast_low_ram"],
        cwd=ROOT,
        env=environment(API_KEY="secret", ROOT_PATH="/mesh", ALLOWED_HOSTS="example.org"),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    made = {path.name for path in (tmp_path / CLIP.stem).iterdir()}
    assert {"mesh_000.glb", "mesh_030.glb", "animated_mesh.glb", "preview.mp4"} <= made
    for word in ("31 meshes", "all valid", "seconds: ", "preview.mp4", "make serve"):
        assert word in result.stdout
    assert "warning" not in result.stdout
    assert_stopped(server_of(result.stdout))


def test_the_log_of_a_server_that_does_not_start_is_shown(tmp_path: Path) -> None:
    result = subprocess.run(
        [*DEMO, "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment(MAX_QUEUE="many"),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 1
    assert "ended with code 2" in result.stderr
    assert "MAX_QUEUE" in result.stderr


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_an_interrupted_demo_leaves_no_server(
    tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        [*DEMO, "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        output = ""
        while "clip " not in output:
            output += process.stdout.readline()
        url = server_of(output)
        wait_until(lambda: any(job["status"] == "running" for job in Client(url).list()))
        process.send_signal(sent)
        assert process.wait(100) == code
    assert_stopped(url)


@pytest.fixture(scope="module")
def made(
    server: ProcessServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A job's files, and what the server reported about them."""
    folder = tmp_path_factory.mktemp("made")
    worker = Client(server.url)
    job_id = worker.submit(CLIP, mode="fast_low_ram", max_frames=16)
    job = worker.wait(job_id)
    worker.save(job_id, folder)
    return folder, job


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip_a_bit(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def lie_about_the_length(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:8] + (len(whole) + 4).to_bytes(4, "little") + whole[12:])


def forget_the_motion(path: Path) -> None:
    shutil.copy(path.with_name("mesh_000.glb"), path)


def leave_a_member_out(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_name("mesh_000.glb"), "mesh_000.glb")


@pytest.mark.parametrize(
    ("name", "break_it", "words"),
    [
        ("mesh_003.glb", Path.unlink, "not there"),
        ("mesh_003.glb", flip_a_bit, "hash"),
        ("mesh_003.glb", cut_short, "is not a binary glTF"),
        ("mesh_003.glb", lie_about_the_length, "header"),
        ("animated_mesh.glb", forget_the_motion, "morph targets"),
        ("meshes.zip", leave_a_member_out, "exactly the 16 meshes"),
        ("meshes.zip", cut_short, "is not a zip"),
        ("preview.mp4", cut_short, "is not a complete mp4"),
        ("poster.webp", cut_short, "cut short"),
    ],
)
def test_every_broken_file_is_reported(
    made: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    name: str,
    break_it: Callable[[Path], None],
    words: str,
) -> None:
    folder, job = made
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    job = json.loads(json.dumps(job))
    assert check_outputs(broken, job) == len(job["files"])
    break_it(broken / name)
    if words not in ("hash", "not there"):  # a server that reports the hash of a broken file
        _update_facts(broken, job, name)
    with pytest.raises(InvalidOutput, match=words):
        check_outputs(broken, job)


def _update_facts(folder: Path, job: dict[str, Any], name: str) -> None:
    whole = (folder / name).read_bytes()
    for file in job["files"]:
        if file["name"] == name:
            file.update(bytes=len(whole), sha256=hashlib.sha256(whole).hexdigest())


def test_a_missing_output_is_reported(made: tuple[Path, dict[str, Any]]) -> None:
    folder, job = made
    files = [file for file in job["files"] if file["name"] != "preview.mp4"]
    with pytest.raises(InvalidOutput, match="not made: preview.mp4"):
        check_outputs(folder, {**job, "files": files})
