"""Clips of unusual sides go through intake and then through the pipeline in a real child process.

What intake takes ends as files or as no_subject_found: no size may crash OpenCV.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest

from executors.base import ExecutorOptions, run_to_end
from executors.local import LocalExecutor
from intake.inspect import inspect
from job.options import JobOptions
from job.task import ChildConfig, Failed, Result, Task
from tests.servers import process_server
from tests.video.clips import LOSSLESS, ffmpeg
from tests.waiting import wait_until
from video.flow import dense_flow, fast_method, optical_flow
from video.sizes import FLOW_MIN_SIDE, FLOW_PX

BUSY = "testsrc2=s={size}:r=12"
PLAIN = (
    "color=0xc8cdd2:s={size}:r=12[back];color=red:s={subject}:r=12[box];"
    "[back][box]overlay=x='(W-w)/2+W/9*sin(n/5)':y='(H-h)/2+H/9*cos(n/4)'"
)


def subject(width: int, height: int) -> str:
    side = min(width, height) // 2
    return f"{side}x{side}"


def picture(kind: str, width: int, height: int) -> str:
    """An ffmpeg filter that draws the frames."""
    pattern = BUSY if kind == "busy" else PLAIN
    return pattern.format(size=f"{width}x{height}", subject=subject(width, height))


def clip_of(path: Path, kind: str, width: int, height: int) -> None:
    """Sixteen frames: an AVI of a busy or a plain scene, or a zip of PNGs with alpha."""
    if kind != "alpha":
        scene = ("-f", "lavfi", "-i", picture(kind, width, height))
        ffmpeg(*scene, "-frames:v", "16", *LOSSLESS, "-f", "avi", str(path))
        return
    folder = path.parent / "frames"
    folder.mkdir()
    cut = f"{picture('plain', width, height)},colorkey=0xc8cdd2:0.1"
    ffmpeg("-f", "lavfi", "-i", cut, "-frames:v", "16", str(folder / "%02d.png"))
    with zipfile.ZipFile(path, "w") as packed:
        for frame in sorted(folder.iterdir()):
            packed.write(frame, frame.name)


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(ExecutorOptions(ChildConfig("silhouette")))) as running:
        yield running


FEW = [
    ("busy", 640, 64),
    ("busy", 64, 640),
    ("busy", 1000, 40),
    ("plain", 512, 16),
    ("plain", 16, 16),
    ("alpha", 17, 33),
]
MORE = [
    (kind, width, height)
    for kind in ("busy", "plain", "alpha")
    for across, down in (
        (640, 64),
        (1000, 40),
        (16, 16),
        (512, 16),
        (33, 17),
        (300, 31),
        (1024, 32),
    )
    for width, height in dict.fromkeys([(across, down), (down, across)])
    if (kind, width, height) not in FEW
]


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)],
)
def test_what_intake_takes_crashes_no_stage(
    executor: LocalExecutor, tmp_path: Path, kind: str, width: int, height: int
) -> None:
    folder = tmp_path / str(uuid4())
    folder.mkdir()
    clip_of(folder / "input", kind, width, height)
    facts = inspect(folder / "input")
    options = JobOptions(mode="fast_low_ram")
    outcome = run_to_end(executor, Task(folder.name, 1, folder, facts.container, options))
    if isinstance(outcome, Failed):
        assert outcome.error.code == "no_subject_found" and kind == "busy", outcome.error.message
        return
    assert isinstance(outcome, Result), outcome
    names = {file.name for file in outcome.files}
    assert {"preview.mp4", "poster.webp", "source.mp4", "meshes.zip"} <= names


@pytest.mark.parametrize(("width", "height"), [(256, 30), (256, 16), (64, 15), (320, 8), (31, 256)])
def test_flow_is_never_asked_for_at_a_size_that_crashes_it(width: int, height: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width), dtype=np.uint8)
    with pytest.raises(ValueError, match="no flow"):
        dense_flow(fast_method(), *noise)
    with pytest.raises(ValueError, match="no flow"):
        optical_flow(*noise)


def test_the_smallest_flow_is_finite() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 1024, FLOW_MIN_SIDE), dtype=np.uint8)
    for one, two in (noise, noise.transpose(0, 2, 1), noise[:, :FLOW_PX]):
        for flow in (dense_flow(fast_method(), one, two), optical_flow(one, two)):
            assert flow.shape == (*one.shape, 2) and np.isfinite(flow).all()


def test_the_wide_clip_that_crashed_ends_as_a_job(test_media: Path, tmp_path: Path) -> None:
    clip = test_media / "hostile2" / "wide_10to1.avi"
    with process_server(tmp_path) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        files = {"file": (clip.name, clip.read_bytes())}
        job_id = http.post("/jobs", files=files).raise_for_status().json()["job_id"]

        def has_ended() -> bool:
            return http.get(f"/jobs/{job_id}").json()["status"] not in ("queued", "running")

        wait_until(has_ended, 120.0)
        job = http.get(f"/jobs/{job_id}").json()
        assert job["status"] == "finished" or job["error_code"] == "no_subject_found", job
        assert job.get("attempt", 1) == 1 and "lost" not in server.log.read_text()
