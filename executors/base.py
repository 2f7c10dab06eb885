"""What an executor is, and everything that may cross the boundary to the process that runs a job.

Tasks go in, progress and one outcome come out; bulk data lies as files in the job's folder. Every
class here is a plain frozen dataclass with a JSON form. Which executor runs is not decided here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from errors import ServiceError


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
    container: str
    mode: str
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


class Executor(Protocol):
    """Runs `capacity` tasks at a time, each asked for by a worker thread of its own.

    `capacity` holds once `start` has returned. The properties are for GET /ready, from memory.
    """

    capacity: int

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

    def run(
        self, task: Task, on_progress: Callable[[Progress], None], cancelled: threading.Event
    ) -> Result:
        """Block until the task ends. Raises JobFailed, WorkerLost, Cancelled or TimedOut."""

    def rest(self) -> None:
        """Called while there is nothing to do: memory may be given back."""

    def close(self) -> None:
        """End every process; a run under way raises WorkerLost. Idempotent, from any thread."""
