"""The whole worker over HTTP: jobs in a row, tries, cancelling, memory, the GPU's idle time.

A part of the measurement, called by __main__.py. The server runs as on a machine with a GPU, with
one child for the meshes and one for the files.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.actionmesh_gpu.gpu import used_gb
from benchmarks.actionmesh_gpu.part import Part
from benchmarks.actionmesh_gpu.random_models import (
    BALL,
    BALL_RADIUS,
    GPU_TIMES,
    RING,
    TUBE,
    environment,
)
from tests.faults.server import Server
from tests.waiting import wait_until

FOR_LIBRARIES = ("CUDA", "LD_", "NVIDIA", "PYTHON", "PYTORCH")
"""Beginnings of the names of variables that the server inherits."""
CANCEL_S = {"shape": 12.0, "motion": 20.0, "decoding": 35.0}
"""Estimates: most of it is the time until the stage is reached."""
JOB_S = 95.0
"""An estimate: a job with its colours and files, which another one does not wait for."""
VIDEO_FRAMES = 18
"""A second and a half: 16 of them are used."""
TRIES = 4
MORE_JOBS: dict[str, dict[str, Any]] = {
    f"fast, tries={TRIES}": {"tries": TRIES},
    "fast, texture=none": {"texture": "none"},
    "fast, with a subject_box": {"subject_box": "0.05,0.05,0.95,0.95"},
    "fast_low_ram after fast": {"mode": "fast_low_ram"},
}


def measure(part: Part) -> None:
    """Print the table."""
    columns = "most GPU memory until it is ready, GB", "of that in shape", "after it, GB"
    part.begin("The worker over HTTP", "what", "s", *columns, "")
    if not part.fits("all of it", 120):
        return
    with _serving(part) as session:
        session.two_jobs()
        for what, options in MORE_JOBS.items():
            if part.fits(what, JOB_S):
                session.one_more(what, **{"mode": "fast", **options})
        if part.fits(f"cancelled in shape 2 of {TRIES}", 20):
            session.cancelled_in("shape", f"shape 2 of {TRIES}", tries=TRIES)
        for stage, estimate_s in CANCEL_S.items():
            if part.fits(f"cancelled in {stage}", estimate_s):
                session.cancelled_in(stage)


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

    def one_more(self, what: str, **options: Any) -> None:
        """One job with other options, after the others."""
        self._finished(what, self.server.submit(self.clip, **options))

    def cancelled_in(self, stage: str, message: str = "", **options: Any) -> None:
        """Time from the request until the job is cancelled; `message` is that of the progress."""
        job_id = self.server.submit(self.clip, mode="fast", **options)

        def reached() -> bool:
            job = self.server.job(job_id)
            is_over = job["status"] not in ("queued", "running")
            progress = job.get("progress") or {"stage": "", "message": ""}
            is_there = progress["stage"] == stage and progress["message"].startswith(message)
            return is_over or is_there

        wait_until(reached, self.part.left_s)
        began = time.monotonic()
        self.server.http.post(f"/jobs/{job_id}/cancel")
        over = "cancelled", "finished"
        job = self.server.wait_for(job_id, *over, timeout_s=self.part.left_s)
        seconds = time.monotonic() - began
        self.row(f"cancelled in {message or stage}", seconds, note=job["status"])

    def row(
        self, what: str, seconds: float, most_gb: Mapping[str, float] | None = None, note: str = ""
    ) -> None:
        """With the memory that the server's processes hold now, and the most in each stage."""
        most = [max(most_gb.values()), most_gb.get("shape", 0.0)] if most_gb else []
        cells = [f"{gb:.1f}" for gb in most] or ["", ""]
        self.part.row(what, f"{seconds:.2f}", *cells, f"{self._held_gb():.1f}", note)

    def _held_gb(self) -> float:
        """Of the GPU's memory, by the server's processes."""
        return used_gb(self.part.size.device) - self.before_gb

    def _finished(self, what: str, job_id: str) -> None:
        most_gb: dict[str, float] = {}

        def is_over() -> bool:
            job, held_gb = self.server.job(job_id), self._held_gb()
            stage = (job.get("progress") or {}).get("stage", "")
            most_gb[stage] = max(most_gb.get(stage, 0.0), held_gb)
            return job["status"] not in ("queued", "running")

        wait_until(is_over, self.part.left_s)
        job = self.server.job(job_id)
        taken = {name: s for name, s in job["timings"].items() if name not in ("queued", "total")}
        note = [f"{name} {s:.1f}" for name, s in taken.items()]
        note.append(f"outlines {(job.get('score') or {}).get('outline_mean')}")
        note.append(f"texture {(job.get('texture') or {}).get('state')}")
        note += [warning["code"] for warning in job["warnings"]]
        if job["status"] != "finished":
            note.append(f"{job['status']}: {job.get('error_code')}")
        self.row(what, sum(taken.values()), most_gb, ", ".join(note))


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
    """The figure, dark on white, from half a right angle above, as it moves to the right."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (side, side))
    for k in range(VIDEO_FRAMES):
        writer.write(_picture(side, 0.1 * k / VIDEO_FRAMES))
    writer.release()


def _picture(side: int, shift: float) -> NDArray[np.uint8]:
    """The figure's outline, that of the discs in whose middles its balls are; `shift` in its units.

    A torus is a ball that goes round.
    """
    picture = np.full((side, side, 3), 255, np.uint8)
    angles = np.linspace(0, 2 * np.pi, 720)
    round_about = np.stack([np.cos(angles), 0 * angles, np.sin(angles)], axis=1) * RING
    scale, half = 0.4 * side, side / 2
    for middle, radius in [*((point, TUBE) for point in round_about), (BALL, BALL_RADIUS)]:
        x, y, z = middle
        at = half + scale * (x + shift), half - scale * (y - z) / np.sqrt(2)
        colour = (40 + 25 * x, 40 + 25 * y, 40 - 25 * z)
        centre = round(at[0]), round(at[1])
        cv2.circle(picture, centre, round(scale * radius), colour, thickness=-1)
    return picture


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
