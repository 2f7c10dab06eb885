"""The steps of a job inside the child process: compute the meshes, then export the files.

    input -> frames -> pipeline -> checkpoint/meshes.npz -> appearance.py: view, score, colours
                                                         -> exports.py: GLBs, zip, videos

A Task comes in, a Result goes out; progress and cancel go through JobReporter. Everything is
written into the attempt's workspace. The checkpoint is beside it: the meshes are not lost if an
export fails, and another process can export them while this one computes the next job's meshes.
Called by child/main.py.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from child.appearance import Appearance, add_appearance
from child.checkpoint import (
    NoCheckpoint,
    load_checkpoint,
    peak_rss_mb,
    restore_reports,
    save_checkpoint,
)
from child.exports import write_files
from child.limits import return_free_memory
from child.reporter import JobReporter, LoadReporter, Send
from child.windows import other_window, used_instead, with_windows
from errors import (
    GpuError,
    ModeUnavailable,
    NoSubjectFound,
    ServiceError,
    VideoTooShort,
    VideoUnreadable,
)
from job.options import JobOptions
from job.task import OutputFile, Result, Task
from meshes.sequence import MeshSequence
from pipeline import Pipeline, SubjectChoice
from subject.find import find_subject
from subject.model import load_library
from subject.model_file import fetch_if_missing
from video.clip import Clip
from video.cores import in_order
from video.frames import read_clip
from video.sampling import ClipWarning, FrameRequest
from video.sandbox import ProgramKilled

log = logging.getLogger(__name__)

CANCEL_CHECK_S = 0.1
"""How often a job that waits for its frames checks for a cancel."""

Read = tuple[Clip, tuple[ClipWarning, ...]]

_OPTIONAL = {
    "faces": "does not choose its number of triangles",
    "tries": "makes one shape only",
}
"""Options that a pipeline may take as parameters, and what one without the parameter does."""


class FramePrefetcher:
    """Reads the frames of the probable next job in a thread, while the GPU is busy."""

    def __init__(self, pipeline: str = "") -> None:
        """`pipeline` is the name of the one that will compute the jobs."""
        self._pipeline = pipeline
        # one permanent thread: ffmpeg is killed when the thread that started it ends
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._reading: dict[str, tuple[FrameRequest, Future[Read]]] = {}

    def prefetch(self, task: Task) -> None:
        """Start to read; the previous job's frames are kept too, since it may be about to begin."""
        last = list(self._reading.items())[-1:]
        request = task.options.frame_request(self._pipeline)
        reading = self._thread.submit(_read_clip, task, request, lambda *_: None)
        self._reading = dict([*last, (task.job_id, (request, reading))])

    def take(
        self, job_id: str, request: FrameRequest, while_waiting: Callable[[], None]
    ) -> Read | None:
        """This job's frames, if they were prefetched without an error; only once."""
        prefetched, future = self._reading.pop(job_id, (None, None))
        if future is None or prefetched != request:
            return None
        while not future.done():
            while_waiting()
            wait([future], CANCEL_CHECK_S)
        return future.result() if future.exception() is None else None


@dataclass(frozen=True)
class Recipe:
    """Runs tasks with one loaded pipeline.

    Without a pipeline only `export` works. These methods raise ServiceError for expected failures,
    OSError if the disk is full, Cancelled, or any other exception for a bug.
    """

    pipeline: Pipeline | None
    send: Send
    cancelled: threading.Event
    prefetcher: FramePrefetcher = field(default_factory=FramePrefetcher)
    blender_path: str = ""

    def load(self) -> None:
        """Load the pipeline; raises what `Pipeline.load` raises."""
        if self.pipeline is not None:
            if _finds_subjects(self.pipeline):
                fetch_if_missing()
                load_library()
            self.pipeline.load(LoadReporter(self.send))

    def run(self, task: Task) -> Result:
        """One attempt, from the input to the output files."""
        return self._export(*self.compute(task))

    def compute(self, task: Task) -> tuple[Clip, MeshSequence, JobReporter]:
        """The first part: returns once the meshes are in the checkpoint.

        An earlier attempt's checkpoint is used if there is one. The clip has no alpha but its own:
        the videos show it as it was sent.
        """
        pipeline = self.pipeline
        assert pipeline is not None, "this process only exports"
        reporter = JobReporter(task, pipeline.name, pipeline.shares, self.send, self.cancelled)
        task.workspace.mkdir(mode=0o700)
        try:
            meshes, made = load_checkpoint(task)
        except NoCheckpoint:
            clip, found = self._with_subject(pipeline, reporter)
            if not clip.has_alpha:
                clip = found.without_alpha()  # the same frames, once in memory
            meshes = _animate(pipeline, found, reporter)
            del found
            return_free_memory()
            save_checkpoint(meshes, reporter)
        else:
            restore_reports(made, reporter)
            clip = self._read_frames(reporter)
            log.info("the meshes of an earlier attempt are used")
        return clip, meshes, reporter

    def export(self, task: Task) -> Result:
        """The second part, from the checkpoint. Raises NoCheckpoint."""
        meshes, made = load_checkpoint(task)
        reporter = JobReporter(task, made["pipeline"], {}, self.send, self.cancelled)
        task.workspace.mkdir(mode=0o700, exist_ok=True)
        restore_reports(made, reporter)
        clip = self._read_frames(reporter)
        result = self._export(clip, meshes, reporter)
        return replace(result, peak_rss_mb=max(result.peak_rss_mb, made["peak_rss_mb"]))

    def _export(self, clip: Clip, meshes: MeshSequence, reporter: JobReporter) -> Result:
        made = add_appearance(clip, meshes, reporter)
        write_files(clip, made.meshes, reporter, self.blender_path)
        return _result(clip, made, reporter)

    def _with_subject(self, pipeline: Pipeline, reporter: JobReporter) -> tuple[Clip, Clip]:
        """The frames, and the same with the subject.

        Where the first seconds of a longer video show none, those with the most motion are tried,
        and the reporter's `start` is theirs.
        """
        options = reporter.task.options
        choice = options.subject_choice
        clip = self._read_frames(reporter)
        try:
            return clip, _with_subject(pipeline, clip, choice, reporter)
        except NoSubjectFound as nothing:
            start = None
            if not (options.start or choice or options.mesh):  # a mesh has the first frame's pose
                look = partial(reporter.progress, "extracting", 0, 1, "Looking for motion")
                start = other_window(reporter.task, clip, look)
            if start is None:
                raise with_windows(nothing, [clip]) from nothing
            first = nothing
        reporter.warnings.clear()  # they are about other frames
        reporter.start = start
        looked_at = [clip]
        try:
            looked_at.append(self._read_frames(reporter))
            found = _with_subject(pipeline, looked_at[-1], choice, reporter)
        except (NoSubjectFound, VideoTooShort, VideoUnreadable):
            raise with_windows(first, looked_at) from None
        reporter.warning("window_only", used_instead(*looked_at))
        return looked_at[-1], found

    def _read_frames(self, reporter: JobReporter) -> Clip:
        def report(step: int, steps: int) -> None:
            reporter.progress("extracting", step, steps, "Reading the frames")

        asked = reporter.task.options.frame_request(reporter.pipeline)
        request = replace(asked, start=reporter.start)
        read = self.prefetcher.take(reporter.task.job_id, request, lambda: report(0, 1))
        if read is None:
            report(0, 1)
            read = _read_clip(reporter.task, request, report)
        clip, warnings = read
        reporter.frames_read(len(clip))
        is_told = request != asked  # in `window_only`, which the subject gave
        for code, message in warnings:
            if not (is_told and code in ("unused_tail", "window_only")):
                reporter.warning(code, message)
        return clip


def _finds_subjects(pipeline: Pipeline) -> bool:
    return hasattr(pipeline, "find_subject") or bool(getattr(pipeline, "needs_alpha", False))


def _with_subject(
    pipeline: Pipeline, clip: Clip, choice: SubjectChoice | None, reporter: JobReporter
) -> Clip:
    """The clip with alpha, where the pipeline needs it or the client has chosen a subject."""
    own_way = getattr(pipeline, "find_subject", None)
    if own_way is not None:
        found: Clip = own_way(clip, choice, reporter)
        return found
    if choice is None and not getattr(pipeline, "needs_alpha", False):
        return clip
    subject = find_subject(clip, choice, reporter)
    reporter.subject(subject.clip, subject.method, subject.confidence)
    return subject.clip


def _animate(pipeline: Pipeline, clip: Clip, reporter: JobReporter) -> MeshSequence:
    options = reporter.task.options
    mesh = reporter.task.folder / "mesh.glb" if options.mesh else None
    more = _asked_for(pipeline, options)
    return pipeline.animate(clip, options.mode, options.seed, reporter, mesh, **more)


def _asked_for(pipeline: Pipeline, options: JobOptions) -> dict[str, Any]:
    """The optional parameters of `animate` that have not their defaults. Raises ModeUnavailable."""
    asked = {}
    for name, lack in _OPTIONAL.items():
        value = getattr(options, name)
        if value == JobOptions.model_fields[name].default:
            continue
        if name not in inspect.signature(pipeline.animate).parameters:
            raise ModeUnavailable(
                f"The {pipeline.name} pipeline here {lack}.", hint=f"Leave `{name}` out."
            )
        asked[name] = value
    return asked


def _read_clip(task: Task, request: FrameRequest, on_progress: Callable[[int, int], None]) -> Read:
    return read_clip(task.folder / "input", task.container, request, on_progress=on_progress)


def is_unusable(error: ServiceError) -> bool:
    """True if the process that saw this error must end, as after a lost CUDA context."""
    is_gpu_lost = isinstance(error, GpuError) and bool(error.facts.get("sticky"))
    return is_gpu_lost or isinstance(error, ProgramKilled)  # too little memory: free this one's


def _result(clip: Clip, made: Appearance, reporter: JobReporter) -> Result:
    reporter.update_timings(time.monotonic())
    meshes = made.meshes
    t, v, _ = meshes.vertices.shape
    return Result(
        files=tuple(in_order(_output_file, sorted(reporter.task.workspace.iterdir()))),
        mesh={"timesteps": t, "vertices": v, "faces": len(meshes.faces), "fps": meshes.fps},
        source=asdict(clip.source),
        start=reporter.start,
        timings={stage: round(took, 3) for stage, took in reporter.timings.items()},
        warnings=tuple(reporter.warnings),
        subject=reporter.found_subject,
        view=meshes.view.to_dict() if meshes.view else {},
        score=made.score,
        texture=made.texture,
        tries=tuple(reporter.tries),
        peak_rss_mb=round(peak_rss_mb(), 1),
    )


def _output_file(path: Path) -> OutputFile:
    """Hash the file and make it durable, before the job counts as finished."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        os.fsync(file.fileno())
        return OutputFile(path.name, os.fstat(file.fileno()).st_size, digest.hexdigest())
