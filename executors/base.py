"""What an executor is, and everything that may cross the boundary to the process that runs a job.

Tasks go in, progress and one outcome come out; bulk data lies as files in the job's folder. What
crosses is a plain frozen dataclass with a JSON form. Which executor runs is not decided here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from errors import ServiceError

if TYPE_CHECKING:
    from presets import Mode
    from video.ffmpeg import Container


@dataclass(frozen=True)
class Task:
    """One attempt at one job, as the child gets it.

    `folder` is the job's own; the child writes under `folder/attempt-<attempt>` and nowhere else.
    `container` is the sniffed kind of `folder/input`: mov, avi, matroska or zip. With `mesh`, the
    client's own mesh lies at `folder/mesh.glb`.
    """

    job_id: str
    attempt: int
    folder: Path
    container: Container
    mode: Mode
    seed: int
    start: float = 0.0
    fps: float | None = None
    max_frames: int = 31
    blender_export: bool = False
    formats: tuple[str, ...] = ()
    mesh: bool = False

    @property
    def workspace(self) -> Path:
        """Where this attempt writes; promoted by the parent with one rename."""
        return self.folder / f"attempt-{self.attempt}"

    @property
    def checkpoint(self) -> Path:
        """Where the meshes lie once they are made, for this attempt's files or the next one's."""
        return self.folder / "checkpoint"

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "folder": str(self.folder), "formats": list(self.formats)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Task:
        """The inverse of `as_record`."""
        known = dict(record)
        return cls(**{**known, "folder": Path(known["folder"]), "formats": tuple(known["formats"])})


@dataclass(frozen=True)
class Progress:
    """Where a job stands. `fraction` runs from 0 to 1 and never falls within an attempt."""

    stage: str
    step: int
    steps: int
    fraction: float
    message: str = ""
    preview_mesh: bool = False

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class OutputFile:
    """One finished file: its name inside the outputs folder, size and hash."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Result:
    """What a finished attempt made; names are those of files in its workspace.

    `source` is SourceFacts as a record, `mesh` holds timesteps, vertices, faces and fps, `timings`
    seconds per stage, `notices` the warnings as records of code and message.
    """

    files: tuple[OutputFile, ...]
    mesh: dict[str, Any]
    source: dict[str, Any]
    timings: dict[str, float]
    notices: tuple[dict[str, str], ...] = ()
    peak_rss_mb: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Result:
        """The inverse of `as_record`; raises KeyError or TypeError on anything else."""
        return cls(
            **{
                **record,
                "files": tuple(OutputFile(**file) for file in record["files"]),
                "notices": tuple(record["notices"]),
            }
        )


class WorkerLost(Exception):
    """The process that ran the job is gone; the job may be tried again."""


class JobFailed(Exception):
    """The job itself failed; trying it again gives the same. Carries the reason."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error.code)
        self.error = error


UnderWay = Generator[Progress | None, None, Result]
"""An attempt under way. Each `next` does what can be done without waiting and yields a progress, or
None: then nothing more can be done until the executor's `wait` returns. Its value is the result."""


class Executor(Protocol):
    """Runs attempts side by side. One thread starts it, drives all of them and waits for them.

    `capacity` is how many jobs are made at a time; it holds once `start` has returned. `wake` and
    `close` may be called from any thread; the properties too, they are answered from memory.
    """

    capacity: int

    @property
    def has_room(self) -> bool:
        """True if one more attempt may begin now."""

    @property
    def is_ready(self) -> bool:
        """True once a pipeline is loaded (it may since rest, if asked to)."""

    @property
    def is_resting(self) -> bool:
        """True if nothing is loaded because nothing was to do."""

    @property
    def loading(self) -> Mapping[str, int] | None:
        """`done_bytes` and `total_bytes` while weights are downloaded."""

    @property
    def broken(self) -> ServiceError | None:
        """Why no pipeline can be loaded."""

    def start(self) -> None:
        """Bring the first process up, so that the first job need not wait for it."""

    def run(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """An attempt; begins with its first `next`. Raises JobFailed, WorkerLost or Cancelled.

        Who sets `cancelled` calls `wake`. Closing the generator gives the attempt up.
        """

    def expect(self, task: Task) -> None:
        """This one is likely to be next: what needs no GPU may be done ahead. Promises nothing."""

    def wait(self, timeout_s: float) -> None:
        """Block until an attempt may go on, `wake` was called, or the time is over.

        What has nothing to do is looked after here: memory may be given back.
        """

    def wake(self) -> None:
        """Make `wait` return, now or the next time it is called."""

    def close(self) -> None:
        """End every process; attempts under way raise WorkerLost. Idempotent."""


LOOK_EVERY_S = 0.5
"""How often deadlines are looked at while nothing else happens."""


def run_to_end(
    executor: Executor,
    task: Task,
    on_progress: Callable[[Progress], None],
    cancelled: threading.Event,
) -> Result:
    """Block until the task ends: for those who have one at a time. Raises what `run` raises."""
    attempt = executor.run(task, cancelled)
    while True:
        try:
            progress = next(attempt)
        except StopIteration as end:
            result: Result = end.value
            return result
        if progress is None:
            executor.wait(LOOK_EVERY_S)
        else:
            on_progress(progress)
