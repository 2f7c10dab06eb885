"""Everything that crosses the boundary to the process that runs a job, as plain frozen data.

A ChildConfig and Tasks go in, Progress and one Outcome for each task come out; large data are files
in the job's folder. child/main.py and executors/base.py describe who sends what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import ServiceError
from job.options import MAX_TRIES, JobOptions

if TYPE_CHECKING:
    from video.ffmpeg import Container

SUBJECT, MASKS, ANCHOR = "subject.webp", "masks.zip", "anchor.glb"
EARLY_FILES = (SUBJECT, MASKS, ANCHOR)
"""Written before the meshes: which pixels are the subject, and the shape that is set in motion."""
TRIED = tuple(f"anchor_{number}.glb" for number in range(MAX_TRIES))
"""Where several shapes are tried, each of them is written to one of these, before ANCHOR."""
MAX_ATTEMPTS = 3
"""A job whose process was lost so many times fails."""
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Task:
    """One attempt at one job, as an executor and the child get it.

    `folder` is the job's own; the child writes under `folder/attempt-<attempt>` and nowhere else.
    `container` is the sniffed kind of `folder/input`: mov, avi, matroska, webp_anim, gif or
    zip. With `options.mesh`, the client's own mesh is at `folder/mesh.glb`.
    """

    job_id: str
    attempt: int
    folder: Path
    container: Container
    options: JobOptions

    @property
    def workspace(self) -> Path:
        """Where this attempt writes; the parent publishes it with one rename."""
        return self.folder / f"attempt-{self.attempt}"

    @property
    def checkpoint(self) -> Path:
        """Where the computed meshes are stored, for the export of this attempt or the next one."""
        return self.folder / "checkpoint"

    def to_dict(self) -> dict[str, Any]:
        options = self.options.model_dump(mode="json")
        return {**vars(self), "folder": str(self.folder), "options": options}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Task:
        options = JobOptions.model_validate(record["options"])
        return cls(**{**record, "folder": Path(record["folder"]), "options": options})


@dataclass(frozen=True)
class Progress:
    """How far a job is. `fraction` is from 0 to 1 and never falls within an attempt.

    `ready` are the names of the files in its workspace that are complete, in the order in which
    they were written.
    """

    stage: str
    step: int
    steps: int
    fraction: float
    message: str = ""
    ready: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Progress:
        """From its fields; raises KeyError, TypeError or ValueError on anything else."""
        ready = tuple(record["ready"])
        if not all(isinstance(name, str) and _FILE_NAME.fullmatch(name) for name in ready):
            raise ValueError(f"not names of files: {ready}")
        return cls(**{**record, "ready": ready})


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
    seconds per stage, `warnings` the warnings as records of code, message and facts. `subject` says
    how it was found: method, confidence and box; empty if the pipeline reports none. `start` is the
    second from which on frames were taken, None in a record of an earlier version. `view`, `score`
    and `texture` are View, Score and the texture's state as docs/api.md describes them, empty if
    there are none; `tries` are seed, outline (IoU with the first frame's), anchor (a name of
    TRIED) and chosen of each shape, where several were tried.
    """

    files: tuple[OutputFile, ...]
    mesh: dict[str, Any]
    source: dict[str, Any]
    timings: dict[str, float]
    warnings: tuple[dict[str, Any], ...] = ()
    subject: dict[str, Any] = field(default_factory=dict)
    start: float | None = None
    view: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    texture: dict[str, Any] = field(default_factory=dict)
    tries: tuple[dict[str, Any], ...] = ()
    peak_rss_mb: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Result:
        """The inverse of `to_dict`; raises KeyError or TypeError on anything else."""
        files = tuple(OutputFile(**file) for file in record["files"])
        lists = {name: tuple(record.get(name, ())) for name in ("warnings", "tries")}
        return cls(**{**record, **lists, "files": files})


@dataclass(frozen=True)
class Failed:
    """The job itself failed; another attempt would fail too."""

    error: ServiceError


@dataclass(frozen=True)
class Stopped:
    """It was cancelled."""


@dataclass(frozen=True)
class Lost:
    """The process that ran the job ended without a result; the job may be tried again.

    `crash` names the signal if native code crashed at the work: SIGSEGV, for example.
    """

    reason: str
    crash: str = ""


Outcome = Result | Failed | Stopped | Lost
Event = Progress | Outcome
"""What comes back from an executor: any number of Progress, then one Outcome."""


@dataclass(frozen=True)
class ChildConfig:
    """The settings of a child process: its first message.

    With an empty `pipeline` it only exports files. `memory_mb` limits its own memory (0: no limit):
    what it may write, or with `uses_cuda` what it uses. `cores` is how many cores work on a job's
    frames (0: its part of the machine, where `sharing` such processes run). `task_s` is
    JOB_TIMEOUT, for the limit of a task's CPU time (0: none). `environment`, the settings that the
    pipeline reads, is applied before other imports.
    """

    pipeline: str
    log_format: str = "text"
    memory_mb: int = 0
    uses_cuda: bool = False
    cores: int = 0
    sharing: int = 1
    task_s: float = 0.0
    blender_path: str = ""
    environment: dict[str, str] = field(default_factory=dict)
