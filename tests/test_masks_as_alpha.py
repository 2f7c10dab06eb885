"""The program of docs/api.md that sends the masks of a job back as alpha, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from client import Client
from tests.servers import ROOT, ProcessServer

CLIP = ROOT / "examples" / "dancing_sprout.mp4"


def test_masks_can_be_sent_back_as_alpha(server: ProcessServer, tmp_path: Path) -> None:
    worker = Client(server.url)
    first = worker.submit(CLIP, mode="fast_low_ram", max_frames=16, start=0.2)
    worker.wait(first, timeout=120)
    again = send_back(server.url, first, tmp_path)
    jobs = worker.status(first), worker.wait(again, timeout=120)
    assert [job["subject"]["method"] for job in jobs] == ["plain_background", "alpha"]
    assert (
        jobs[1]["input"]["used_frames"] == 16 and jobs[1]["mesh"]["fps"] == jobs[0]["mesh"]["fps"]
    )
    before, after = (masks(worker, job_id, tmp_path / job_id) for job_id in (first, again))
    size = jobs[0]["source"]["height"], jobs[0]["source"]["width"]
    assert before.shape == after.shape == (16, *size)
    for one, two in zip(before > 127, after > 127, strict=True):
        assert (one & two).sum() > 0.99 * (one | two).sum() > 0


def send_back(url: str, job_id: str, folder: Path) -> str:
    """Run the program of the page; the id that it prints."""
    page = (ROOT / "docs" / "api.md").read_text()
    (program,) = re.findall(r"```python\n(.*?alphamerge.*?)```", page, re.DOTALL)
    (folder / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    done = subprocess.run(
        [sys.executable, "-c", program, str(CLIP), job_id],
        cwd=folder,
        env={"PATH": str(folder), "PYTHONPATH": str(ROOT), "ACTIONMESH_URL": url,
             "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def masks(worker: Client, job_id: str, folder: Path) -> NDArray[np.uint8]:
    """`(T, H, W)` of a finished job."""
    (path,) = worker.save(job_id, folder, "masks")
    with zipfile.ZipFile(path) as archive:
        contents = [np.frombuffer(archive.read(name), np.uint8) for name in archive.namelist()]
    return np.stack([np.asarray(cv2.imdecode(c, cv2.IMREAD_UNCHANGED)) for c in contents])
