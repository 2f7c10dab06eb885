"""One attempt at one job, step by step: from its start on disk to how it ended.

Where the attempt runs is the executor's business, what is written the store's. worker/loop.py goes
through the steps of all attempts that are under way, in its one thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial

from errors import (
    Cancelled,
    JobNotFound,
    ServerFault,
    ServiceError,
    WorkerCrashed,
    from_os_error,
)
from executors.base import Executor
from job import failpoint
from job.folder import JobsFolder
from job.state import Job, JobStatus
from job.task import JobFailed, Result, Task, WorkerLost
from job_store import JobStore
from worker.estimates import Estimates

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""A job that takes its process down this often is given up."""
DISK_PAUSE_S = 2.0
"""How long the thread waits before it tries again to write what the disk did not take."""

Steps = Generator[None, None, bool]
"""Each `next` goes as far as it can without waiting for the executor; True if to be tried again."""


class Attempts:
    """Makes the steps, and writes down how they end; once `stopping` is set, waits for no disk."""

    def __init__(
        self,
        store: JobStore,
        folder: JobsFolder,
        executor: Executor,
        stopping: threading.Event,
        *,
        keep_input: bool,
    ) -> None:
        self.estimates = Estimates()
        self._store = store
        self._folder = folder
        self._executor = executor
        self._stopping = stopping
        self._keep_input = keep_input

    def task(self, job: Job) -> Task:
        """What the executor is told of a job that has its input."""
        assert job.input is not None
        folder = self._folder.job_dir(job.job_id)
        return job.options.task(job.job_id, job.attempts, folder, job.input.container)

    def steps(self, job_id: str, cancelled: threading.Event) -> Steps:
        """One attempt at this job. Raises JobNotFound, and what is a bug of ours."""
        job = self._store.peek(job_id)
        if job is None or job.status is not JobStatus.QUEUED:
            return False  # deleted or cancelled between the queue and here
        try:
            job = self._store.start(job_id)
        except FileNotFoundError:
            self._store.forget(job_id)
            raise JobNotFound("The job's folder is gone.") from None
        except OSError as exc:
            self._wait_for_disk(exc)
            return True
        failpoint.reach("run:started")
        log.info("attempt %d starts: mode %s", job.attempts, job.options.mode)
        began = time.monotonic()
        try:
            result = yield from self._run(job, cancelled)
            failpoint.reach("run:done")
            if cancelled.is_set():
                raise Cancelled  # asked for before the end: the promise counts more than the work
            self._finish(job, result, time.monotonic() - began)
        except Cancelled:
            self.record(job_id, partial(self._store.cancel, job_id))
            log.info("cancelled")
        except JobFailed as failure:
            self.record(job_id, partial(self._store.fail, job_id, failure.error))
            level = logging.ERROR if isinstance(failure.error, ServerFault) else logging.INFO
            log.log(level, "failed: %s: %s", failure.error.code, failure.error.message)
        except WorkerLost as lost:
            return self._after_loss(job_id, job.attempts, str(lost), cancelled)
        except OSError as exc:
            log.exception("the disk did not take the job's files")
            self.fail_on(job_id, from_os_error(exc))
        finally:
            self.clear(job_id)
        return False

    def _run(self, job: Job, cancelled: threading.Event) -> Generator[None, None, Result]:
        with closing(self._executor.run(self.task(job), cancelled)) as attempt:
            while True:
                try:
                    progress = next(attempt)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                if progress is None:
                    yield
                else:
                    self._store.report(job.job_id, progress)

    # --- how an attempt ends

    def _finish(self, job: Job, result: Result, took_s: float) -> None:
        self._folder.publish_outputs(job.job_id, job.attempts, result)
        failpoint.reach("finish:published")
        self.record(job.job_id, partial(self._store.finish, job.job_id, result))
        self.estimates.learn(job.options.mode, took_s)
        log.info(
            "finished in %.1f s: %d files, peak memory %.0f MB",
            took_s,
            len(result.files),
            result.peak_rss_mb,
        )

    def _after_loss(
        self, job_id: str, attempts: int, reason: str, cancelled: threading.Event
    ) -> bool:
        """The child is gone without an answer: who wanted that? True to try again."""
        if cancelled.is_set():
            self.record(job_id, partial(self._store.cancel, job_id))
            log.info("cancelled: %s", reason)
        elif self._stopping.is_set():
            self.record(job_id, partial(self._store.requeue, job_id, counted=False), last=False)
            log.info("given back: the server is stopping")
        elif attempts < MAX_ATTEMPTS:
            log.error("attempt %d lost: %s", attempts, reason)
            self.record(job_id, partial(self._store.requeue, job_id, counted=True), last=False)
            return True
        else:
            log.error("attempt %d lost, the last: %s", attempts, reason)
            self.record(job_id, partial(self.give_up, self._store.get(job_id)))
        return False

    def give_up(self, job: Job) -> None:
        """All its attempts were lost."""
        self._store.fail(
            job.job_id,
            WorkerCrashed(
                f"The process that ran this job ended without an answer, {job.attempts} times.",
                attempts=job.attempts,
            ),
        )

    def fail_on(self, job_id: str, error: ServiceError) -> None:
        """The job fails; what prevents even that is logged, not raised."""
        try:
            self.record(job_id, partial(self._store.fail, job_id, error))
        except ServiceError:
            log.exception("the failure could not be recorded")

    def record(self, job_id: str, write: Callable[[], object], *, last: bool = True) -> None:
        """Remove what the attempt left, then write how it ended.

        In this order: the write may need the room, and nobody tidies up after a job that has ended.
        While the disk takes nothing, the queue waits. A server that stops meanwhile leaves the job
        as it stands on disk, for the next one to try.
        """
        self._folder.remove_attempts(job_id)
        if last:
            self._folder.remove_checkpoint(job_id)
        while True:
            try:
                write()
                return
            except FileNotFoundError:
                self._store.forget(job_id)
                raise JobNotFound("The job's folder is gone.") from None
            except OSError as exc:
                if not self._wait_for_disk(exc):
                    return

    def _wait_for_disk(self, exc: OSError) -> bool:
        """False if the server stops meanwhile."""
        log.error("a job's state cannot be written (%s); next try soon", exc.strerror)
        return not self._stopping.wait(DISK_PAUSE_S)

    def clear(self, job_id: str) -> None:
        """Once a job has ended, its input may not be kept."""
        job = self._store.peek(job_id)
        if job is not None and job.status.is_terminal and not self._keep_input:
            self._folder.remove_input(job_id)
