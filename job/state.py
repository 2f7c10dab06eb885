"""What a job is: its data, its statuses, and which changes of status are legal.

A Job is frozen: every change makes a new one through a method that checks the transition. This file
stores nothing (job_store.py does) and knows no HTTP (api/job_view.py does).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from errors import AlreadyFinished, ServiceError
from intake.inspect import ClipFacts
from job.options import JobOptions
from job.task import ANCHOR, Progress, Result

SCHEMA = 3
"""Version of job.json. A file with a higher one was written by a newer server: not touched."""


class JobStatus(str, Enum):
    #: accepted; waits for the worker (or for its video_url to be fetched)
    QUEUED = "queued"
    #: an attempt runs, or ran when the server stopped
    RUNNING = "running"
    #: all files are there
    FINISHED = "finished"
    #: failed; `error` says why
    ERROR = "error"
    #: stopped on request
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True if the job will not change any more, except that it may be deleted."""
        return self in (JobStatus.FINISHED, JobStatus.ERROR, JobStatus.CANCELLED)


_LEGAL = {  # nothing follows a status that is not here
    JobStatus.QUEUED: (JobStatus.RUNNING, JobStatus.ERROR, JobStatus.CANCELLED),
    JobStatus.RUNNING: (
        JobStatus.QUEUED, JobStatus.FINISHED, JobStatus.ERROR, JobStatus.CANCELLED
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One job. Times are aware datetimes in UTC.

    `idempotency` holds `key` and `hash`, both as sha256 in hex: of the client's Idempotency-Key and
    of the request that it came with.

    `attempts` counts the starts, without those that a server stop ended; `crashes` those that ended
    by a crash of native code. `revision` grows with every change and is not stored.
    `waiting_for_input` is True until a video_url has been fetched.
    """

    job_id: str
    sequence: int
    status: JobStatus
    pipeline: str
    options: JobOptions
    created_at: datetime
    input: ClipFacts | None = None
    waiting_for_input: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    crashes: int = 0
    progress: Progress | None = None
    cancel_requested: bool = False
    result: Result | None = None
    warnings: tuple[Mapping[str, Any], ...] = ()
    error: Mapping[str, Any] | None = None
    retry_of: str | None = None
    idempotency: Mapping[str, str] | None = None
    disk_bytes: int = 0
    revision: int = field(default=0, compare=False)

    # --- changes

    def _to(self, status: JobStatus, **changes: Any) -> Job:
        if status not in _LEGAL.get(self.status, ()):
            raise AlreadyFinished(
                f"This job has ended: it is {self.status.value}.", job_status=self.status.value
            )
        return self.changed(status=status, **changes)

    def changed(self, **changes: Any) -> Job:
        """A copy with these fields and the next revision. Not for changes of the status."""
        return replace(self, revision=self.revision + 1, **changes)

    def started(self, now: datetime) -> Job:
        """An attempt begins; counted before any work is done."""
        return self._to(
            JobStatus.RUNNING,
            started_at=now,
            attempts=self.attempts + 1,
            progress=None,
            cancel_requested=False,
        )

    def requeued(self, *, counted: bool, crashed: bool = False) -> Job:
        """Back to its place in the queue; after a graceful stop the attempt is not counted."""
        return self._to(
            JobStatus.QUEUED,
            attempts=self.attempts if counted else max(0, self.attempts - 1),
            crashes=self.crashes + crashed,
            started_at=None,
            progress=None,
        )

    def finished(self, now: datetime, result: Result) -> Job:
        return self._to(
            JobStatus.FINISHED,
            finished_at=now,
            result=result,
            warnings=self.warnings + tuple(result.warnings),
            progress=None,
            disk_bytes=(self.input.bytes if self.input else 0)
            + sum(file.bytes for file in result.files),
        )

    def failed(self, now: datetime, error: ServiceError) -> Job:
        return self._to(
            JobStatus.ERROR, finished_at=now, error=error.to_dict(), waiting_for_input=False
        )

    def cancelled(self, now: datetime) -> Job:
        return self._to(JobStatus.CANCELLED, finished_at=now, waiting_for_input=False)

    # --- JSON

    def to_dict(self) -> dict[str, Any]:
        """What job.json holds. Everything that job/index.py needs is before `pipeline`."""
        head = {
            "schema": SCHEMA,
            "job_id": self.job_id,
            "sequence": self.sequence,
            "status": self.status.value,
            "created_at": _written(self.created_at),
            "finished_at": _written(self.finished_at),
            "disk_bytes": self.disk_bytes,
            "idempotency": dict(self.idempotency) if self.idempotency else None,
        }
        parts = {"input": self.input, "progress": self.progress, "result": self.result}
        tail = {
            **vars(self),
            "started_at": _written(self.started_at),
            "options": self.options.model_dump(mode="json"),
            **{name: asdict(part) if part else None for name, part in parts.items()},
        }
        del tail["revision"]
        return {**head, **{key: value for key, value in tail.items() if key not in head}}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Job:
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError on anything else."""
        known = _upgraded(record)
        source, result = known["input"], known["result"]
        known.update(
            status=JobStatus(known["status"]),
            created_at=_read_time(known["created_at"]),
            started_at=_read_time(known["started_at"]) if known["started_at"] else None,
            finished_at=_read_time(known["finished_at"]) if known["finished_at"] else None,
            options=JobOptions.model_validate(known["options"]),
            input=ClipFacts(**source) if source else None,
            progress=Progress.from_dict(known["progress"]) if known["progress"] else None,
            result=Result.from_dict(result) if result else None,
            warnings=tuple(known["warnings"]),
        )
        return cls(**known)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def _upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as this version writes it, without its version."""
    known = dict(record)
    schema = known.pop("schema")
    if schema == 1 and known["result"]:
        result = dict(known["result"])
        warnings = result.pop("notices", [])
        known["result"] = {"warnings": warnings, **result}
    if schema < 3 and known["progress"]:
        progress = dict(known["progress"])
        has_anchor = progress.pop("preview_mesh" if schema == 1 else "has_anchor", False)
        known["progress"] = {**progress, "ready": (ANCHOR,) if has_anchor else ()}
    return known


def _written(time: datetime | None) -> str | None:
    return time.astimezone(timezone.utc).isoformat() if time else None


def _read_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"a time without a zone: {text}")
    return time
