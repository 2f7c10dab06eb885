"""The recipe of a job, run inside the child: make the meshes, then write the files.

    input -> frames -> pipeline -> checkpoint/meshes.npz -> job_files.py: GLBs, zip, videos, poster

It knows no HTTP and no queue: a Task comes in, a Result goes out, and on the way there are progress
and cancel. Everything is written under the attempt's own workspace; the checkpoint lies beside it,
so that a failed export or preview never costs the pipeline's work again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from errors import Cancelled, DiskFull, GpuError, ServiceError
from executors.base import OutputFile, Progress, Result, Task
from job_files import write_files
from meshes.gltf import animated_glb
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from pipeline import Pipeline
from video.clip import Clip
from video.frames import read_clip
from video.sandbox import ProgramKilled

log = logging.getLogger(__name__)

REPORT_EVERY_S = 0.1
"""Progress within a stage is told at most this often."""

# How a job's time divides, about: what comes before, inside and after the pipeline.
_SHARES = {
    "silhouette": {"extracting": 0.06, "pipeline": 0.62, "exporting": 0.08, "rendering": 0.24},
    "actionmesh": {"extracting": 0.02, "pipeline": 0.88, "exporting": 0.02, "rendering": 0.08},
}

Send = Callable[..., None]


class Recipe:
    """One loaded pipeline and what is done with it for every task."""

    def __init__(self, pipeline: Pipeline, send: Send, cancelled: threading.Event) -> None:
        self._pipeline = pipeline
        self._send = send
        self._cancelled = cancelled

    def load(self) -> None:
        """Load the pipeline; raises what `Pipeline.load` raises."""
        self._pipeline.load(_LoadReporter(self._send))

    def run(self, task: Task) -> Result:
        """One attempt. Raises ServiceError for what can be named, Cancelled, or a bug."""
        reporter = JobReporter(task, self._pipeline, self._send, self._cancelled)
        task.workspace.mkdir(mode=0o700)
        try:
            clip, meshes = make_meshes(task, self._pipeline, reporter)
            facts = {"pipeline": self._pipeline.name, "mode": task.mode, "seed": task.seed}
            write_files(task, clip, meshes, reporter, facts)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("The disk of the server is full.") from exc
            raise
        return _result(task, clip, meshes, reporter)


def make_meshes(task: Task, pipeline: Pipeline, reporter: JobReporter) -> tuple[Clip, MeshSequence]:
    """The frames and their animated mesh: from the last attempt's checkpoint if there is one."""
    reporter.progress("extracting", 0, 1, "Reading the frames")
    clip, notices = read_clip(
        task.folder / "input",
        task.container,  # type: ignore[arg-type]
        start=task.start,
        fps=task.fps,
        max_frames=task.max_frames,
        on_progress=lambda step, steps: reporter.progress("extracting", step, steps),
    )
    for code, message in notices:
        reporter.notice(code, message)
    meshes = _read_checkpoint(task, reporter)
    if meshes is None:
        mesh = task.folder / "mesh.glb" if task.mesh else None
        meshes = pipeline.animate(clip, task.mode, task.seed, reporter, mesh)  # type: ignore[arg-type]
        _write_checkpoint(task, meshes, reporter)
    return clip, meshes


class JobReporter:
    """pipeline.Reporter for one task: progress to the parent, notices kept, stages timed."""

    def __init__(
        self, task: Task, pipeline: Pipeline, send: Send, cancelled: threading.Event
    ) -> None:
        self.notices: list[dict[str, str]] = []
        self.timings: dict[str, float] = {}
        self._task = task
        self._send = send
        self._cancelled = cancelled
        self._spans = _spans(pipeline)
        self._fraction = 0.0
        self._stage = ""
        self._stage_began = time.monotonic()
        self._sent_at = 0.0
        self._has_anchor = False

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """Tell the parent; raises Cancelled if the job is to stop."""
        if self._cancelled.is_set():
            raise Cancelled
        now = time.monotonic()
        is_new = stage != self._stage
        if is_new:
            self._end_stage(now)
            self._stage, self._message = stage, message
        low, high = self._spans.get(stage, (self._fraction, self._fraction))
        fraction = low + (high - low) * min(1.0, step / steps if steps else 0.0)
        self._fraction = max(self._fraction, fraction)
        if is_new or step == steps or now - self._sent_at >= REPORT_EVERY_S:
            self._sent_at = now
            progress = Progress(
                stage, step, steps, self._fraction, message or self._message, self._has_anchor
            )
            self._send("progress", **progress.as_record())

    def notice(self, code: str, message: str) -> None:
        """Kept for the finished job; each code once."""
        if all(notice["code"] != code for notice in self.notices):
            self.notices.append({"code": code, "message": message})

    def anchor(self, mesh: MeshSequence) -> None:
        """Write anchor.glb, to be looked at while the job goes on."""
        normals = vertex_normals(mesh)
        part = self._task.workspace / "anchor.glb.part"
        part.write_bytes(animated_glb(mesh, normals))
        os.replace(part, part.with_name("anchor.glb"))
        self._has_anchor = True

    def end(self) -> None:
        """The last stage is over."""
        self._end_stage(time.monotonic())
        self._stage = ""

    def _end_stage(self, now: float) -> None:
        if self._stage:
            took = now - self._stage_began
            self.timings[self._stage] = self.timings.get(self._stage, 0.0) + took
        self._stage_began = now


class _LoadReporter:
    """pipeline.Reporter while no job is there: only the bytes of a download are told."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """`step` and `steps` are bytes while weights are downloaded."""
        if stage == "downloading":
            self._send("loading", done_bytes=step, total_bytes=steps)
        elif message:
            log.info("%s", message)

    def notice(self, code: str, message: str) -> None:
        """Goes to the log."""
        log.warning("%s: %s", code, message)

    def anchor(self, mesh: MeshSequence) -> None:
        """No job runs, so there is nobody to show it to."""
        raise AssertionError(f"an anchor mesh of {len(mesh)} timesteps while loading")


def is_unusable(error: ServiceError) -> bool:
    """True if the process that saw this error must end, as after a lost CUDA context."""
    if isinstance(error, ProgramKilled):  # memory is short: all of ours is given back, too
        return True
    return isinstance(error, GpuError) and bool(error.facts.get("sticky"))


def _spans(pipeline: Pipeline) -> dict[str, tuple[float, float]]:
    """Each stage's part of the way from 0 to 1, in order."""
    around = _SHARES.get(pipeline.name, _SHARES["silhouette"])
    shares = {"extracting": around["extracting"]}
    shares |= {stage: around["pipeline"] * share for stage, share in pipeline.shares.items()}
    shares |= {stage: around[stage] for stage in ("exporting", "rendering")}
    spans, low = {}, 0.0
    for stage, share in shares.items():
        spans[stage] = (low, min(1.0, low + share))
        low += share
    return spans


def _checkpoint(task: Task) -> Path:
    return task.folder / "checkpoint"


def _write_checkpoint(task: Task, meshes: MeshSequence, reporter: JobReporter) -> None:
    """Into a folder that appears whole, by one rename."""
    part = task.workspace / "checkpoint"
    part.mkdir()
    meshes.save(part / "meshes.npz")
    made = {"notices": reporter.notices, "timings": reporter.timings}
    (part / "made.json").write_text(json.dumps(made))
    os.rename(part, _checkpoint(task))


def _read_checkpoint(task: Task, reporter: JobReporter) -> MeshSequence | None:
    folder = _checkpoint(task)
    try:
        meshes = MeshSequence.load(folder / "meshes.npz")
        made = json.loads((folder / "made.json").read_text())
    except (OSError, ValueError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    for notice in made["notices"]:
        reporter.notice(notice["code"], notice["message"])
    reporter.timings.update(made["timings"])
    log.info("the meshes of an earlier attempt are used")
    return meshes


def _result(task: Task, clip: Clip, meshes: MeshSequence, reporter: JobReporter) -> Result:
    reporter.end()
    return Result(
        files=tuple(_output_file(path) for path in sorted(task.workspace.iterdir())),
        mesh={
            "timesteps": len(meshes),
            "vertices": int(meshes.vertices.shape[1]),
            "faces": int(meshes.faces.shape[0]),
            "fps": meshes.fps,
        },
        source=clip.source.as_record(),
        timings={stage: round(took, 3) for stage, took in reporter.timings.items()},
        notices=tuple(reporter.notices),
        peak_rss_mb=round(_peak_rss_mb(), 1),
    )


def _output_file(path: Path) -> OutputFile:
    """Hash the file and make it durable: the job is finished only when its files are."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        os.fsync(file.fileno())
        return OutputFile(path.name, os.fstat(file.fileno()).st_size, digest.hexdigest())


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
