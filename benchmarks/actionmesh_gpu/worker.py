"""The whole worker over HTTP: two jobs in a row, cancelling, memory, the GPU's idle time.

A part of the measurement, called by __main__.py. The server runs as on a machine with a GPU, with
one child for the meshes and one for the files.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from benchmarks.actionmesh_gpu.gpu import used_gb
from benchmarks.actionmesh_gpu.part import Part
from benchmarks.actionmesh_gpu.random_models import GPU_TIMES, environment
from tests.faults.server import Server
from tests.upstream import tiny
from tests.waiting import wait_until

FOR_LIBRARIES = ("CUDA", "LD_", "NVIDIA", "PYTHON", "PYTORCH")
"""Beginnings of the names of variables that the server inherits."""
CANCEL_S = {"shape": 12.0, "motion": 20.0, "decoding": 35.0}
"""Estimates: most of it is the time until the stage is reached."""
VIDEO_FRAMES = 18
"""A second and a half: 16 of them are used."""


def measure(part: Part) -> None:
    """Print the table."""
    part.begin("The worker over HTTP", "what", "s", "GPU memory after it, GB", "")
    if not part.fits("all of it", 120):
        return
    with _serving(part) as session:
        session.two_jobs()
        for stage, estimate_s in CANCEL_S.items():
            if part.fits(f"cancelled in {stage}", estimate_s):
                session.cancelled_in(stage)
        if part.fits("fast_low_ram after fast", 60):
            session.one_more("fast_low_ram")


@dataclass(frozen=True)
class _Session:
    """A running server and what is asked of it; `before_gb` of the GPU are not the server's."""

    part: Part
    server: Server
    clip: Path
    before_gb: float

    def ready(self) -> None:
        """Until the models are loaded."""
        began = time.monotonic()
        self.server.start()
        wait_until(lambda: self.server.http.get("/ready").status_code == 200, self.part.left_s)
        self.row("from the start until it is ready", time.monotonic() - began)

    def two_jobs(self) -> None:
        """The second one waits in the queue: the time between them is the GPU's idle time."""
        jobs = [self.server.submit(self.clip, mode="fast") for _ in range(2)]
        for what, job_id in zip(("first job", "second job"), jobs, strict=True):
            self._finished(f"{what}, fast", job_id)
        # began, ended, began, ended; a job's last event comes before its files are written
        times = [float(line.split()[1]) for line in _lines(self.part.home / GPU_TIMES)]
        idle_s = times[2] - times[1]
        self.part.figures["gpu_idle_s"] = idle_s
        self.row("GPU idle between the two", idle_s)

    def one_more(self, mode: str) -> None:
        """One job of another mode, after the others."""
        self._finished(f"{mode} after fast", self.server.submit(self.clip, mode=mode))

    def cancelled_in(self, stage: str) -> None:
        """Time from the request until the job is cancelled."""
        job_id = self.server.submit(self.clip, mode="fast")

        def reached() -> bool:
            job = self.server.job(job_id)
            is_over = job["status"] not in ("queued", "running")
            return is_over or (job.get("progress") or {}).get("stage") == stage

        wait_until(reached, self.part.left_s)
        began = time.monotonic()
        self.server.http.post(f"/jobs/{job_id}/cancel")
        over = "cancelled", "finished"
        job = self.server.wait_for(job_id, *over, timeout_s=self.part.left_s)
        self.row(f"cancelled in {stage}", time.monotonic() - began, job["status"])

    def row(self, what: str, seconds: float, note: str = "") -> None:
        """With the memory that the server's processes hold now."""
        held_gb = used_gb(self.part.size.device) - self.before_gb
        self.part.row(what, f"{seconds:.2f}", f"{held_gb:.1f}", note)

    def _finished(self, what: str, job_id: str) -> None:
        job = self.server.wait_for(job_id, timeout_s=self.part.left_s)
        taken = {name: s for name, s in job["timings"].items() if name not in ("queued", "total")}
        codes = [warning["code"] for warning in job["warnings"]]
        note = ", ".join([*(f"{name} {s:.1f}" for name, s in taken.items()), *codes])
        self.row(what, sum(taken.values()), note)


@contextmanager
def _serving(part: Part) -> Iterator[_Session]:
    """A server of the random weights that is ready; it ends with the block."""
    folder = part.home / "worker"
    folder.mkdir(exist_ok=True)
    (part.home / GPU_TIMES).unlink(missing_ok=True)
    clip = folder / "clip.mp4"
    _write_video(clip, part.size.frame_px)
    inherited = {
        name: value for name, value in os.environ.items() if name.startswith(FOR_LIBRARIES)
    }
    given: dict[str, Any] = {**inherited, **environment(part.home)}
    before_gb = used_gb(part.size.device)
    with Server(folder, part.size.pipeline, **given) as server:
        server.program = ("-m", "tests.faults.separate_files_server")
        try:
            session = _Session(part, server, clip, before_gb)
            session.ready()
            yield session
        finally:
            sys.stderr.write(f"the server's last lines:\n{server.output()[-3000:]}\n")


def _write_video(path: Path, side: int) -> None:
    """A dark disc that moves on white."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (side, side))
    for frame in tiny.clip_of(VIDEO_FRAMES, alpha=False, size=side).frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
