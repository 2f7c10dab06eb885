"""Implements pipeline.Reporter: sends a job's progress from the child to its parent.

Holds the approximate share of each stage in a job's time, and keeps warnings and timings for the
finished job. Used by child/recipe.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2

from child.subject_files import first_box, write_masks, write_strip
from errors import Cancelled
from job.task import ANCHOR, MASKS, SUBJECT, TRIED, Progress, Task
from meshes.gltf import write_animated
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from video.clip import Clip
from video.sampling import MIN_FRAMES

log = logging.getLogger(__name__)

REPORT_EVERY_S = 0.1
"""Progress within a stage is sent at most this often."""

AFTER = ("view", "texture", "exporting", "rendering")
"""The parts of a job after its pipeline; `view` and `texture` belong to the stage exporting."""
# approximate shares of a job's time before, inside and after the pipeline
_SHARES = {
    "silhouette": {"extracting": 0.06, "pipeline": 0.61, "view": 0.02, "texture": 0.0,
                   "exporting": 0.08, "rendering": 0.23},
    "actionmesh": {"extracting": 0.02, "pipeline": 0.7, "view": 0.04, "texture": 0.12,
                   "exporting": 0.03, "rendering": 0.09},
}  # fmt: skip
_OTHERS = {"extracting": 0.05, "pipeline": 0.6, "view": 0.04, "texture": 0.08,
           "exporting": 0.06, "rendering": 0.17}  # fmt: skip

_NO_MASKS = "The pictures of the subject could not be written; the meshes are fine."

Send = Callable[..., None]


@dataclass
class JobReporter:
    """pipeline.Reporter for one task: progress to the parent, warnings kept, stages timed.

    `shares` are those of the pipeline of this name; empty if the meshes exist already, and only the
    stages after them are left. `start` is the second from which on frames are taken, `seed` the one
    that the meshes were made from. The fraction that it reports never falls.
    """

    task: Task
    pipeline: str
    shares: Mapping[str, float]
    send: Send
    cancelled: threading.Event

    def __post_init__(self) -> None:
        self.warnings: list[dict[str, Any]] = []
        self.timings: dict[str, float] = {}
        self.found_subject: dict[str, Any] = {}
        self.tries: list[dict[str, Any]] = []
        self.ready: tuple[str, ...] = ()
        self.start = self.task.options.start
        self.seed = self.task.options.seed
        self._around = _SHARES.get(self.pipeline, _OTHERS)
        self._computed = 1.0 - sum(self._around[part] for part in AFTER)
        self._fraction = 0.0 if self.shares else self._computed
        self.frames_read(MIN_FRAMES)
        self._stage = ""
        self._stage_began = time.monotonic()
        self._sent_at = 0.0
        self._last: Progress | None = None

    def frames_read(self, count: int) -> None:
        """The job has so many frames: plan how far each stage will bring it."""
        before = self._before(count) if self.shares else {}
        after = {part: self._around[part] for part in AFTER}
        self._spans = _spans({**before, **after}, 0.0 if self.shares else self._computed)

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """Send progress to the parent. Raises Cancelled if the job was cancelled."""
        self._report(stage, self._spans.get(stage), step, steps, message)

    def part(self, name: str, done: float, message: str) -> None:
        """In stage exporting, `done` (0 to 1) of `view` or `texture`. Raises Cancelled."""
        self._report("exporting", self._spans.get(name), round(100 * done), 100, message)

    def plan(self, *parts: str) -> None:
        """These of AFTER are all that is left: they share the rest of the job."""
        low = max(self._fraction, self._computed)
        self._spans = _spans({part: self._around[part] for part in parts}, low)

    def written(self, *names: str) -> None:
        """These files of the workspace are complete: told at once, since clients may want them."""
        self.ready += tuple(name for name in names if name not in self.ready)
        if self._last is not None:
            self._last = replace(self._last, ready=self.ready)
            self.send("progress", **vars(self._last))

    def warning(self, code: str, message: str, **facts: Any) -> None:
        """Keep a warning for the finished job; each code once."""
        if all(warning["code"] != code for warning in self.warnings):
            self.warnings.append({"code": code, "message": message, **facts})

    def subject(
        self, clip: Clip, method: str | None = None, confidence: float | None = None
    ) -> None:
        """Write subject.webp and masks.zip; if that fails, it is a warning. Raises Cancelled."""
        self.found_subject = {
            "method": method,
            "confidence": None if confidence is None else round(confidence, 3),
            "box": first_box(clip),
        }
        masks = partial(write_masks, tick=self.check_cancelled)  # seconds for large pictures
        for name, write in ((SUBJECT, write_strip), (MASKS, masks)):
            try:
                write(clip, self.task.workspace / name)
            except (OSError, cv2.error):
                log.exception("%s could not be written", name)
                self.warning("masks_failed", _NO_MASKS)
            else:
                self.written(name)

    def check_cancelled(self) -> None:
        """Raises Cancelled if the job was cancelled."""
        if self.cancelled.is_set():
            raise Cancelled

    def tried(self, mesh: MeshSequence, seed: int, outline: float) -> None:
        """Write the next of anchor_0.glb ...; a seed that is tried again keeps its file's name."""
        seeds = [known["seed"] for known in self.tries]
        number = seeds.index(seed) if seed in seeds else len(seeds)
        known = {"seed": seed, "outline": round(outline, 3), "anchor": TRIED[number]}
        self.tries[number : number + 1] = [{**known, "chosen": False}]
        self._write_still(mesh, TRIED[number])

    def anchor(self, mesh: MeshSequence, seed: int | None = None) -> None:
        """Write anchor.glb, which users can see while the job runs."""
        if seed is not None:
            self.seed = seed
        for known in self.tries:
            known["chosen"] = known["seed"] == self.seed
        self._write_still(mesh, ANCHOR)

    def _write_still(self, mesh: MeshSequence, name: str) -> None:
        write_animated(mesh, vertex_normals(mesh), self.task.workspace / name)
        self.written(name)

    def update_timings(self, now: float) -> None:
        """Add the current stage's time to `timings`, until `now` (monotonic clock, seconds)."""
        if self._stage:
            took = now - self._stage_began
            self.timings[self._stage] = self.timings.get(self._stage, 0.0) + took
        self._stage_began = now

    def _before(self, frames: int) -> dict[str, float]:
        """Shares of the stages before AFTER: `shape` grows with the tries, others with frames."""
        tries, longer = self.task.options.tries, frames / MIN_FRAMES
        took = {s: part * (tries if s == "shape" else longer) for s, part in self.shares.items()}
        scale = self._around["pipeline"] / sum(took.values())
        stages = {stage: scale * part for stage, part in took.items()}
        return {"extracting": self._around["extracting"], **stages}

    def _report(
        self, stage: str, span: tuple[float, float] | None, step: int, steps: int, message: str
    ) -> None:
        self.check_cancelled()
        now = time.monotonic()
        is_new = stage != self._stage
        if is_new:
            self.update_timings(now)
            self._stage = stage
        if is_new or message:
            self._message = message
        low, high = span or (self._fraction, self._fraction)
        fraction = low + (high - low) * min(1.0, step / steps if steps else 0.0)
        self._fraction = max(self._fraction, fraction)
        self._last = Progress(stage, step, steps, self._fraction, self._message, self.ready)
        if is_new or step == steps or now - self._sent_at >= REPORT_EVERY_S:
            self._sent_at = now
            self.send("progress", **vars(self._last))


@dataclass
class LoadReporter:
    """pipeline.Reporter while the pipeline loads: reports only the bytes of a download."""

    send: Send

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """In stage `downloading`, `step` and `steps` are bytes."""
        if stage == "downloading":
            self.send("loading", done_bytes=step, total_bytes=steps)
        elif message:
            log.info("%s", message)

    def warning(self, code: str, message: str, **facts: Any) -> None:
        log.warning("%s: %s %s", code, message, facts or "")

    def subject(
        self,
        clip: Clip,
        method: str | None = None,
        confidence: float | None = None,  # noqa: ARG002
    ) -> None:
        raise AssertionError(f"a subject in {len(clip)} frames ({method}) while loading")

    def tried(self, mesh: MeshSequence, seed: int, outline: float) -> None:
        raise AssertionError(
            f"a mesh of {len(mesh)} timesteps from {seed} ({outline}) while loading"
        )

    def anchor(self, mesh: MeshSequence, seed: int | None = None) -> None:
        raise AssertionError(f"an anchor mesh of {len(mesh)} timesteps ({seed}) while loading")


def _spans(shares: Mapping[str, float], low: float) -> dict[str, tuple[float, float]]:
    """Start and end of each part, in order, as fractions of the job: from `low` on to 1."""
    scale = (1.0 - low) / sum(shares.values())
    spans = {}
    for part, share in shares.items():
        spans[part] = (low, min(1.0, low + scale * share))
        low += scale * share
    return spans
