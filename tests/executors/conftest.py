"""A real video of sixteen frames, made once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest


@pytest.fixture(scope="session")
def clip_16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "sixteen.mp4"
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=size=96x64:rate=16", "-frames:v", "16", "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )  # fmt: skip
    return path
