"""A real video of sixteen frames, made once, and a task to animate it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from job.task import Task
from tests.job_factory import OPTIONS


@pytest.fixture(scope="session")
def clip_16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "sixteen.mp4"
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=size=96x64:rate=16", "-frames:v", "16", "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )  # fmt: skip
    return path


@pytest.fixture
def task(tmp_path: Path, clip_16: Path) -> Task:
    """A job folder as the API leaves it."""
    folder = tmp_path / "6b2f8c1e-7f1c-4f4e-9d43-1d2c3b4a5f60"
    folder.mkdir()
    (folder / "input").write_bytes(clip_16.read_bytes())
    return Task(folder.name, 1, folder, "mov", OPTIONS)
