"""One attempt at one job, on disk: how it starts, and how it ends.

The executor runs the attempt; the store writes the records. worker/loop.py calls this from its one
thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from errors import (
    InputCrashesPipeline,
    ServerFault,
    ServiceError,
    WorkerCrashed,
    from_os_error,
)
from job import appearance_step, failpoint
from job.folder import JobsFolder
from job.state import Job, JobStatus
from job.task import MAX_ATTEMPTS, Failed, Lost, Outcome, Result, Stopped, Task
from job_store import JobStore
from worker.estimates import Estimates

log = logging.getLogger(__name__)

MAX_CRASHES = 2
"""A job on which native code crashed so many times fails: a kill is chance, a crash is not."""
DISK_PAUSE_S = 2.0
"""How long the thread waits after a failed write before it tries again."""


@dataclass(frozen=True)
class AttemptRecorder:
    """Stores how attempts start and end; once `stopping` is set, it waits for no disk."""

    store: JobStore
    folder: JobsFolder
    stopping: threading.Event
    keep_input: bool
    estimates: Estimates = field(default_factory=Estimates)

    def task(self, job: Job) -> Task:
        assert job.input is not None
        folder = self.folder.job_dir(job.job_id)
        return Task(job.job_id, job.attempts, folder, job.input.container, job.options)

    def start(self, job_id: str) -> Task | None:
        """Count the attempt on disk. None if the job ended since it was taken from the queue.

        Raises JobNotFound, and OSError if the write fails.
        """
        job = self.store.peek(job_id)
        if job is None or job.status is not JobStatus.QUEUED:
            return None
        job = self.store.start(job_id)
        failpoint.reach("run:started")
        log.info("attempt %d starts: mode %s", job.attempts, job.options.mode)
        return self.task(job)

    # --- how an attempt ends

    def commit_outcome(
        self, task: Task, outcome: Outcome, took_s: float, *, is_cancelled: bool
    ) -> bool:
        """Store how the attempt ended. True if the job is to be tried again.

        A cancel has priority over a result that came after it, and over a loss. While JOBS_DIR
        cannot be used the queue waits, and an attempt that failed then is repeated: the fault may
        be that its files were missing. Raises JobNotFound if the job was deleted meanwhile.
        """
        job_id = task.job_id
        had_storage = self.folder.is_usable()
        if not had_storage:
            if not self._wait_for_storage():
                return False
            if isinstance(outcome, Failed):
                outcome = Lost(outcome.error.message)
        try:
            if isinstance(outcome, Result):
                failpoint.reach("run:done")
            if isinstance(outcome, Failed):
                self._fail(job_id, outcome.error)
            elif is_cancelled:
                if isinstance(outcome, Lost):
                    log.info("the attempt ended: %s", outcome.reason)
                self.cancel(job_id)
            elif isinstance(outcome, (Lost, Stopped)):  # Stopped unasked: it missed its folder
                lost = outcome if isinstance(outcome, Lost) else Lost("its folder was missing")
                return self._after_loss(task, lost, counted=had_storage)
            else:
                self._finish(task, outcome, took_s)
        except OSError as exc:
            log.exception("the job's files could not be written")
            self.fail_with(job_id, from_os_error(exc))
        return False

    def _finish(self, task: Task, result: Result, took_s: float) -> None:
        job_id, options = task.job_id, task.options
        self.folder.publish_outputs(job_id, task.attempt, result)
        failpoint.reach("finish:published")
        if not self.commit(job_id, lambda: self.store.finish(job_id, result)):
            return
        shape_s = result.timings.get("shape", 0.0)
        frames = result.mesh["timesteps"]
        self.estimates.learn(options.mode, took_s, frames, options.tries, shape_s)
        files, peak_mb = len(result.files), result.peak_rss_mb
        log.info("finished in %.1f s: %d files, peak memory %.0f MB", took_s, files, peak_mb)

    def _fail(self, job_id: str, error: ServiceError) -> None:
        if self.commit(job_id, lambda: self.store.fail(job_id, error)):
            level = logging.ERROR if isinstance(error, ServerFault) else logging.INFO
            log.log(level, "failed: %s: %s", error.code, error.message)

    def _after_loss(self, task: Task, lost: Lost, *, counted: bool) -> bool:
        """Requeued for the next server, tried again (True) or failed.

        A crash in the appearance step counts as a lost process only: the last attempt leaves the
        step out.
        """
        job_id, attempt = task.job_id, task.attempt
        stops = self.stopping.is_set()
        crashed = counted and bool(lost.crash) and not appearance_step.was_lost_in_it(task)
        if crashed and self._crash_is_final(job_id, lost.crash):
            return False
        counted = counted and not stops
        if counted and attempt >= MAX_ATTEMPTS:
            log.error("attempt %d lost, the last: %s", attempt, lost.reason)
            self.fail_after_losses(job_id, attempt)
            return False
        if counted or crashed:
            log.error("attempt %d lost: %s", attempt, lost.reason)
        requeue = partial(self.store.requeue, job_id, counted=counted, crashed=crashed)
        if self.commit(job_id, requeue, last=False) and not counted:
            log.info("requeued: %s", "the server is stopping" if stops else "JOBS_DIR is back")
        return not stops

    def _crash_is_final(self, job_id: str, signal: str) -> bool:
        """Fail the job if this crash was its last; the earlier ones are in its record."""
        job = self.store.get(job_id)
        crashes = job.crashes + 1
        if crashes < MAX_CRASHES:
            return False
        stage = job.progress.stage if job.progress else "extracting"
        self._fail(
            job_id,
            InputCrashesPipeline(
                f"This input crashes the pipeline: {crashes} attempts ended by a crash, the last "
                f"one in stage {stage} ({signal}).",
                crashes=crashes,
                stage=stage,
                signal=signal,
            ),
        )
        return True

    def fail_after_losses(self, job_id: str, attempts: int) -> None:
        words = f"The process that ran this job ended without a result, {attempts} times."
        error = WorkerCrashed(words, attempts=attempts)
        self.commit(job_id, lambda: self.store.fail(job_id, error))

    def fail_with(self, job_id: str, error: ServiceError) -> None:
        """The job fails; an error that prevents this is logged, not raised."""
        try:
            self._fail(job_id, error)
        except ServiceError:
            log.exception("the failure could not be recorded")

    def cancel(self, job_id: str) -> None:
        if self.commit(job_id, lambda: self.store.cancel(job_id)):
            log.info("cancelled")

    def commit(self, job_id: str, write: Callable[[], object], *, last: bool = True) -> bool:
        """Remove the attempt's files, then store how it ended.

        In this order: the write may need the space, and nothing else cleans up after a job that
        has ended. While the disk is full, the queue waits. False if the server stops meanwhile:
        the job on disk is unchanged, and the next server tries it again.
        """
        self.folder.remove_attempts(job_id)
        if last:
            self.folder.remove_checkpoint(job_id)
        while True:
            try:
                write()
                break
            except OSError as exc:
                if not self.wait_for_disk(exc):
                    return False
        self.remove_input(job_id)
        return True

    def wait_for_disk(self, exc: OSError) -> bool:
        """False if the server stops meanwhile."""
        log.error("a job's record cannot be written (%s); trying again soon", exc.strerror)
        return not self.stopping.wait(DISK_PAUSE_S)

    def _wait_for_storage(self) -> bool:
        """True once JOBS_DIR can be used again; False if the server stops meanwhile."""
        log.error("an attempt ended while JOBS_DIR could not be used; waiting for it")
        while not self.stopping.wait(DISK_PAUSE_S):
            if self.folder.is_usable():
                return True
        return False

    def remove_input(self, job_id: str) -> None:
        """Of a job that has ended, unless inputs are kept."""
        job = self.store.peek(job_id)
        if job is not None and job.status.is_terminal and not self.keep_input:
            self.folder.remove_input(job_id)
