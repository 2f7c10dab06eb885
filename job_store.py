"""Every job, as one JSON file in its own folder, with an index in RAM.

RAM holds the whole records of queued and running jobs and a summary of each ended one; after a
restart the files are read. Reading a job that is in RAM never blocks. The worker decides which job
runs; retention decides which one is deleted.

    JOBS_DIR/<job_id>/job.json  input  mesh.glb  attempt-<n>/  checkpoint/  outputs/
    JOBS_DIR/.staging  .trash  .quarantine  .expired  .webhooks  .lock  .sequence
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from errors import JobExpired, JobNotFound, ServiceError
from job import durable, failpoint
from job.folder import JobsFolder, Staging, is_job_id
from job.index import EndedJobs, JobSummary, read_summary
from job.state import SCHEMA, Job, JobStatus, utc_now
from job.task import Progress, Result

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 1.0
"""How often progress is written to disk; a change of status is written at once."""
RECOVERY_TRIES = 5
"""How often, at the start, a job that cannot be read or written is tried, once a second."""


@dataclass(eq=False, repr=False)
class JobStore:
    """Creates, changes, finds and removes jobs. Safe to call from any thread.

    Writers hold one lock while they write to disk; `peek` and the listings read without it.
    `listeners` are called after each change, in the thread that made it.
    """

    folder: JobsFolder
    clock: Callable[[], datetime] = utc_now
    new_id: Callable[[], str] = lambda: str(uuid4())

    def __post_init__(self) -> None:
        self.listeners: list[Callable[[Job], None]] = []
        self._lock = threading.RLock()
        self._live: dict[str, Job] = {}  # the queued and running ones
        self._ended = EndedJobs()
        self._written_at: dict[str, float] = {}  # live job -> when its file was last written
        self._id_by_key: dict[str, str] = {}  # Idempotency-Key -> the job made with it

    # --- opening, closing, recovery

    def open(self) -> None:
        """Lock and prepare the folder. Raises JobsFolderError if another server has it."""
        self.folder.open()

    def reopen(self) -> list[Job]:
        """Take the folder that is at JOBS_DIR now, with its jobs; returns those to run, in order.

        Ended jobs that are not in it are forgotten; the others are when the worker asks for them.
        Raises JobsFolderError.
        """
        with self._lock:
            self.folder.reopen()
        found = set(self.folder.job_ids())
        for job in self.ended():
            if job.job_id not in found:
                self.forget(job.job_id)
        return self.recover()

    def close(self) -> None:
        self.folder.close()

    def recover(self) -> list[Job]:
        """Read the last server's jobs: fills the index, returns the jobs to run, in order.

        A running job keeps its place and its counted attempt. One whose files were already
        published is finished here. Unreadable folders go to .quarantine; records of a newer server
        are not touched.
        """
        to_run: list[Job] = []
        unread = list(self.folder.job_ids())
        for left in reversed(range(RECOVERY_TRIES)):
            job_ids, unread = unread, []
            for job_id in job_ids:
                try:
                    with self._lock:
                        job = self._recover_one(job_id)
                    to_run += [] if job is None else [job]
                except (OSError, JobNotFound) as exc:
                    log.error("job %s cannot be recovered now: %s", job_id, exc)
                    unread.append(job_id)
            if not unread:
                break
            time.sleep(1.0 if left else 0.0)
        for job_id in unread:
            log.error("job %s is not touched until the next start", job_id)
        return sorted(to_run, key=lambda job: job.sequence)

    def _recover_one(self, job_id: str) -> Job | None:
        """The caller holds the lock: a DELETE may come at the same time."""
        if job_id in self._live or job_id in self._ended.summaries:
            return None  # accepted, and perhaps ended, since the scan
        if not self.folder.job_dir(job_id).is_dir():
            return None  # deleted since the scan
        content = self.folder.read_record(job_id)
        if content is None:
            self.folder.quarantine(job_id, "no job.json")
            return None
        summary = read_summary(content)
        if summary is not None and summary.job_id == job_id:
            self._ended.summaries[job_id] = summary
            if summary.idempotency_key is not None:
                self._id_by_key[summary.idempotency_key] = job_id
            return None
        job = self._parse(job_id, content)
        if job is None:
            return None
        self._index_key(job)
        if job.status.is_terminal:
            self._move_to_ended(job)
            return None
        self.folder.remove_attempts(job_id)
        if job.status is JobStatus.RUNNING:
            result = self.folder.published_result(job_id)
            if result is not None:
                self.folder.remove_checkpoint(job_id)
                self.finish(job_id, result)
                return None
            job = job.requeued(counted=True)
        if job.cancel_requested:
            self.folder.remove_checkpoint(job_id)
            self.cancel(job_id)
            return None
        self._live[job_id] = job
        return job

    # --- accepting

    def stage(self) -> Staging:
        """A new job id with its own empty folder in .staging."""
        return self.folder.stage(self.new_id())

    def accept(self, staging: Staging, make: Callable[[str, int, datetime], Job]) -> Job:
        """The one commit point of a 202: after this call returns, the job survives kill -9.

        `make(job_id, sequence, now)` builds the job. After an OSError only the staging folder is
        left, which the caller discards.
        """
        with self._lock:
            job = make(staging.job_id, self.folder.next_sequence(), self.clock())
        if job.options.webhook_url:
            self.folder.mark_webhook(job.job_id)
        for file in (staging.input, staging.mesh):
            if file.exists():
                durable.fsync_file(file)
        failpoint.reach("accept:input_synced")
        durable.write(staging.folder / "job.json", _serialised(job))
        failpoint.reach("accept:staged")
        with self._lock:  # in the index before it is on disk: recovery must not find it twice
            self._live[job.job_id] = job
        try:
            durable.move(staging.folder, self.folder.job_dir(job.job_id))
        except OSError:
            self._live.pop(job.job_id, None)
            self.folder.rollback_commit(job.job_id)
            raise
        failpoint.reach("accept:committed")
        self._index_key(job)
        self._notify_listeners(job)
        return job

    # --- reading

    def peek(self, job_id: str) -> Job | None:
        """The job if it is in RAM. Never blocks; for the event loop."""
        return self._live.get(job_id) or self._ended.whole(job_id)

    def get(self, job_id: str) -> Job:
        """The job, from RAM or disk. May read a small file.

        Raises JobNotFound, JobExpired, and OSError if JOBS_DIR is gone.
        """
        job = self.peek(job_id)
        if job is not None:
            return job
        content = self.folder.read_record(job_id) if is_job_id(job_id) else None
        job = self._parse(job_id, content) if content is not None else None
        if job is None:
            if is_job_id(job_id):
                self.folder.require_present()
            if is_job_id(job_id) and self.folder.is_expired(job_id):
                raise JobExpired("This job expired, and its files were removed.")
            raise JobNotFound("There is no job with this id.")
        if job.status.is_terminal:
            with self._lock:
                self._ended.keep_whole(job)
        return job

    def find_by_key(self, key: str) -> str | None:
        """The id of the job that was made with this Idempotency-Key (as sha256 in hex)."""
        return self._id_by_key.get(key)

    def live(self) -> list[Job]:
        """The jobs that are queued or running, in order."""
        return sorted(self._live.values(), key=lambda job: job.sequence)

    def ended(self) -> list[JobSummary]:
        return list(self._ended.summaries.values())

    def page(
        self, statuses: frozenset[JobStatus], limit: int, before: int | None
    ) -> tuple[list[str], int | None]:
        """Ids of the newest jobs below sequence number `before`, and where the next page starts."""
        # one dictionary, because a job that ends now is in both
        known: dict[str, Job | JobSummary] = {**self._live, **self._ended.summaries}
        found = [
            job
            for job in known.values()
            if job.status in statuses and (before is None or job.sequence < before)
        ]
        found.sort(key=lambda job: job.sequence, reverse=True)
        rest = found[limit - 1].sequence if len(found) > limit else None
        return [job.job_id for job in found[:limit]], rest

    # --- changing

    def start(self, job_id: str) -> Job:
        """An attempt begins; the count is on disk before any work is done."""
        return self._change(job_id, lambda job: job.started(self.clock()))

    def requeue(self, job_id: str, *, counted: bool, crashed: bool = False) -> Job:
        return self._change(job_id, lambda job: job.requeued(counted=counted, crashed=crashed))

    def report(self, job_id: str, progress: Progress) -> None:
        """Store progress: in RAM at once, on disk at most once a second. Not for ended jobs."""
        with self._lock:
            job = self._live.get(job_id)
            if job is None or not (job.status is JobStatus.RUNNING or job.waiting_for_input):
                return
            job = self._live[job_id] = job.changed(progress=progress)
            failpoint.reach(f"report:{progress.stage}")
            if time.monotonic() - self._written_at.get(job_id, 0.0) >= PROGRESS_EVERY_S:
                self._written_at[job_id] = time.monotonic()
                try:
                    self.folder.require_present()  # never write into another server's folder
                    durable.write(self.folder.record_path(job_id), _serialised(job), fsync=False)
                except OSError as exc:  # the next change of status reports a full disk
                    log.warning("progress not written: %s", exc.strerror)
        self._notify_listeners(job)

    def finish(self, job_id: str, result: Result) -> Job:
        return self._change(job_id, lambda job: job.finished(self.clock(), result))

    def fail(self, job_id: str, error: ServiceError) -> Job:
        return self._change(job_id, lambda job: job.failed(self.clock(), error))

    def request_cancel(self, job_id: str) -> Job:
        """Store that a running job is to stop. Raises AlreadyFinished."""

        def change(job: Job) -> Job:
            if job.status.is_terminal:
                return job.cancelled(self.clock())  # raises
            return job.changed(cancel_requested=True)

        return self._change(job_id, change)

    def cancel(self, job_id: str) -> Job:
        """Stopped on request. Raises AlreadyFinished."""
        return self._change(job_id, lambda job: job.cancelled(self.clock()))

    def amend(self, job_id: str, **changes: Any) -> Job:
        """Change fields that are not the status (input facts, warnings)."""
        return self._change(job_id, lambda job: job.changed(**changes))

    def _change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        with self._lock:
            job = change(self._live.get(job_id) or self.get(job_id))
            failpoint.reach(f"change:{job.status.value}")
            self.folder.require_present()  # never write into another server's folder
            try:
                durable.write(self.folder.record_path(job_id), _serialised(job))
            except FileNotFoundError:
                self.folder.require_present()  # else the whole folder has just vanished
                self.forget(job_id)
                raise JobNotFound("The job's folder is missing.") from None
            failpoint.reach(f"changed:{job.status.value}")
            self._written_at[job_id] = time.monotonic()
            if job.status.is_terminal:
                self._move_to_ended(job)
            else:
                self._live[job_id] = job
        self._notify_listeners(job)
        return job

    # --- removing

    def forget(self, job_id: str) -> None:
        """Drop a job from RAM after its folder was removed, perhaps by hand."""
        with self._lock:
            self._live.pop(job_id, None)
            self._written_at.pop(job_id, None)
            self._ended.remove(job_id)

    def delete(self, job_id: str, *, expired: bool = False) -> None:
        """One rename into .trash, which retention empties; an `expired` id stays known as such.

        Raises JobNotFound, JobExpired, OSError.
        """
        with self._lock:
            try:
                job = self.get(job_id)
            except (JobNotFound, JobExpired):
                self.forget(job_id)
                raise
            self.folder.require_present()
            failpoint.reach("delete:asked")
            if expired:
                self.folder.mark_expired(job_id)
                failpoint.reach("expire:marked")
            try:
                self.folder.trash(job_id)
            except FileNotFoundError:
                self.folder.require_present()
                raise JobNotFound("The job's folder is missing.") from None
            finally:
                # renamed, perhaps not yet durably
                if self.folder.is_present() and not self.folder.job_dir(job_id).exists():
                    self.forget(job_id)
                    if job.idempotency and self.find_by_key(job.idempotency["key"]) == job_id:
                        del self._id_by_key[job.idempotency["key"]]
        self._notify_listeners(job)

    def _notify_listeners(self, job: Job) -> None:
        for listener in self.listeners:
            listener(job)

    # --- what is in RAM

    def _move_to_ended(self, job: Job) -> None:
        with self._lock:
            self._ended.add(job)
            self._live.pop(job.job_id, None)
            self._written_at.pop(job.job_id, None)

    def _index_key(self, job: Job) -> None:
        if job.idempotency:
            self._id_by_key[job.idempotency["key"]] = job.job_id

    def _parse(self, job_id: str, content: bytes) -> Job | None:
        """The job in a job.json; None if it cannot be read (then it is quarantined) or is newer."""
        try:
            record = json.loads(content)
            if isinstance(record, dict) and record.get("schema", 0) > SCHEMA:
                log.warning("job %s was written by a newer server (schema); not touched", job_id)
                return None
            job = Job.from_dict(record)
            if job.job_id != job_id or (job.status.is_terminal and job.finished_at is None):
                raise ValueError("the record belongs to another job")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.folder.quarantine(job_id, "job.json cannot be read")
            return None
        return job


def _serialised(job: Job) -> bytes:
    return json.dumps(job.to_dict(), separators=(",", ":")).encode() + b"\n"
