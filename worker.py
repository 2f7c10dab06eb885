"""The loop: ONE background thread that takes one job after another from the queue.

`run_next` does one attempt at one job, start to end; the thread only repeats it. An executor that
runs N jobs at once gets N such threads, which share the queue and nothing else. Where the attempt
runs is the executor's business, what is written the store's. Accepting a job means: reserve a place
(before its body is read), then submit it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

import durable
from errors import (
    AlreadyFinished,
    Cancelled,
    DiskFull,
    InternalError,
    JobNotFound,
    ServerFault,
    ServiceError,
    WorkerCrashed,
)
from estimates import Estimates
from executors.base import Executor, JobFailed, Result, Task, WorkerLost
from job_queue import JobQueue
from job_store import JobStore
from jobs import Job, JobStatus
from logs import bound_to_job

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""A job that takes its process down this often is given up."""
DISK_PAUSE_S = 2.0
"""How long the thread waits before it tries again to write what the disk did not take."""
IDLE_S = 1.0
"""How long the thread waits for a job before it looks whether the executor may rest."""


class Worker:
    """Runs jobs until stopped. All public methods may be called from any thread."""

    def __init__(
        self, store: JobStore, executor: Executor, *, max_queue: int = 32, keep_input: bool = True
    ) -> None:
        self.store = store
        self._keep_input = keep_input
        self.executor = executor
        self.queue = JobQueue(max_queue)
        self.estimates = Estimates()
        self.recovered = threading.Event()
        self.after_recovery: Callable[[list[Job]], None] = lambda _jobs: None
        self._running: dict[str, threading.Event] = {}  # job id -> set it to cancel
        self._running_lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._begin, name="worker", daemon=True)]

    # --- life

    def start(self) -> None:
        """Begin to recover what the last server left, and to take jobs."""
        self._threads[0].start()

    @property
    def is_alive(self) -> bool:
        """False if a thread died: then only a restart helps."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def is_draining(self) -> bool:
        """True once `stop` was called."""
        return self._stopping.is_set()

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no more jobs; a running one may end within the grace, else it is given back."""
        self.queue.close()
        self._stopping.set()
        deadline = time.monotonic() + grace_s
        while self._running and time.monotonic() < deadline and self._threads[0].is_alive():
            time.sleep(0.05)
        self.executor.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10.0)

    def _begin(self) -> None:
        """The first thread: it starts the others, if there are to be any, and outlives them."""
        try:
            self._recover()
            self.executor.start()
            for k in range(1, self.executor.capacity):
                thread = threading.Thread(target=self._repeat, name=f"worker-{k}", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._repeat()
        except Exception:
            log.exception("the worker could not begin")
        finally:
            for thread in self._threads[1:]:
                thread.join()
            self.executor.close()

    def _repeat(self) -> None:
        try:
            while not self._stopping.is_set():
                self.run_next(IDLE_S)
        except Exception:
            log.exception("a worker thread died")

    def _recover(self) -> None:
        waiting_for_input = []
        for job in self.store.recover():
            if job.waiting_for_input:
                waiting_for_input.append(job)
            elif job.attempts >= MAX_ATTEMPTS:
                self._record(job.job_id, partial(self._give_up, job))
            else:
                self.queue.submit(job.job_id, reserved=False)
        if not self._keep_input:  # the last server may have died before it came to that
            for ended in self.store.ended():
                self.store.folder.remove_input(ended.job_id)
        self.recovered.set()
        self.after_recovery(waiting_for_input)

    # --- one job

    def run_next(self, timeout_s: float) -> bool:
        """One attempt at the next job. False if there was none in time."""
        job_id = self.queue.take(timeout_s)
        if job_id is None:
            self.executor.rest()
            return False
        cancelled, again = threading.Event(), False
        with self._running_lock:
            self._running[job_id] = cancelled
        with bound_to_job(job_id):
            try:
                again = self._attempt(job_id, cancelled)
            except JobNotFound:
                log.info("deleted while it ran")
            except Exception:
                log.exception("a bug of ours ended the job")
                self._fail_on(job_id, InternalError("Something went wrong on the server."))
            finally:
                with self._running_lock:
                    del self._running[job_id]
            if again:  # not earlier: another thread may take it at once
                self._try_again(job_id, cancelled)
        return True

    def _try_again(self, job_id: str, cancelled: threading.Event) -> None:
        if cancelled.is_set():  # asked for after the attempt was lost
            with contextlib.suppress(AlreadyFinished, JobNotFound):
                self._record(job_id, partial(self.store.cancel, job_id))
        else:
            self.queue.submit(job_id, reserved=False, first=True)

    def _attempt(self, job_id: str, cancelled: threading.Event) -> bool:
        """True if the job should be tried again."""
        job = self.store.peek(job_id)
        if job is None or job.status is not JobStatus.QUEUED:
            return False  # deleted or cancelled between the queue and here
        try:
            job = self.store.start(job_id)
        except FileNotFoundError:
            self.store.forget(job_id)
            raise JobNotFound("The job's folder is gone.") from None
        except OSError as exc:
            self._wait_for_disk(exc)
            return True
        durable.reach("run:started")
        log.info("attempt %d starts: mode %s", job.attempts, job.options.mode)
        began = time.monotonic()
        try:
            result = self.executor.run(
                self._task(job), lambda progress: self.store.report(job_id, progress), cancelled
            )
            durable.reach("run:done")
            if cancelled.is_set():
                raise Cancelled  # asked for before the end: the promise counts more than the work
            self._finish(job, result, time.monotonic() - began)
        except Cancelled:
            self._record(job_id, partial(self.store.cancel, job_id))
            log.info("cancelled")
        except JobFailed as failure:
            self._record(job_id, partial(self.store.fail, job_id, failure.error))
            level = logging.ERROR if isinstance(failure.error, ServerFault) else logging.INFO
            log.log(level, "failed: %s: %s", failure.error.code, failure.error.message)
        except WorkerLost as lost:
            return self._after_loss(job_id, job.attempts, str(lost), cancelled)
        except OSError as exc:
            log.exception("the job's files could not be promoted")
            self._fail_on(job_id, from_os_error(exc))
        finally:
            self._clear(job_id)
        return False

    def _task(self, job: Job) -> Task:
        assert job.input is not None
        o = job.options
        return Task(
            job_id=job.job_id,
            attempt=job.attempts,
            folder=self.store.folder.of(job.job_id),
            container=job.input.container,
            mode=o.mode,
            seed=o.seed,
            start=o.start,
            fps=o.fps,
            max_frames=o.max_frames,
            blender_export=o.blender_export,
            formats=o.formats,
            mesh=o.mesh,
        )

    # --- how an attempt ends

    def _finish(self, job: Job, result: Result, took_s: float) -> None:
        self.store.promote(job.job_id, job.attempts, result)
        durable.reach("finish:promoted")
        self._record(job.job_id, partial(self.store.finish, job.job_id, result))
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
            self._record(job_id, partial(self.store.cancel, job_id))
            log.info("cancelled: %s", reason)
        elif self._stopping.is_set():
            self._record(job_id, partial(self.store.give_back, job_id, counted=False), last=False)
            log.info("given back: the server is stopping")
        elif attempts < MAX_ATTEMPTS:
            log.error("attempt %d lost: %s", attempts, reason)
            self._record(job_id, partial(self.store.give_back, job_id, counted=True), last=False)
            return True
        else:
            log.error("attempt %d lost, the last: %s", attempts, reason)
            self._record(job_id, partial(self._give_up, self.store.get(job_id)))
        return False

    def _give_up(self, job: Job) -> None:
        self.store.fail(
            job.job_id,
            WorkerCrashed(
                f"The process that ran this job ended without an answer, {job.attempts} times.",
                attempts=job.attempts,
            ),
        )

    def _fail_on(self, job_id: str, error: ServiceError) -> None:
        try:
            self._record(job_id, partial(self.store.fail, job_id, error))
        except ServiceError:
            log.exception("the failure could not be recorded")

    def _record(self, job_id: str, write: Callable[[], object], *, last: bool = True) -> None:
        """Write how an attempt ended; what it left goes first, for the disk may lack just that.

        What goes first cannot be left behind by a crash, either: nobody looks at ended jobs again.
        While the disk takes nothing, the queue waits. A server that stops meanwhile leaves the job
        as it stands on disk, for the next one to try.
        """
        self.store.folder.remove_attempts(job_id)
        if last:
            self.store.folder.remove_checkpoint(job_id)
        while True:
            try:
                write()
                return
            except FileNotFoundError:
                self.store.forget(job_id)
                raise JobNotFound("The job's folder is gone.") from None
            except OSError as exc:
                if not self._wait_for_disk(exc):
                    return

    def _wait_for_disk(self, exc: OSError) -> bool:
        """False if the server stops meanwhile."""
        log.error("a job's state cannot be written (%s); next try soon", exc.strerror)
        return not self._stopping.wait(DISK_PAUSE_S)

    def _clear(self, job_id: str) -> None:
        """Once a job has ended, its input may not be kept."""
        job = self.store.peek(job_id)
        if job is not None and job.status.is_terminal and not self._keep_input:
            self.store.folder.remove_input(job_id)

    # --- cancel, delete, estimates

    def cancel(self, job_id: str) -> Job:
        """Queued: cancelled on return. Running: asked to stop. Raises AlreadyFinished."""
        job = self.store.get(job_id)
        if job.status is JobStatus.QUEUED and self.queue.remove(job_id):
            self.store.folder.remove_checkpoint(job_id)
            try:
                job = self.store.cancel(job_id)
            except OSError:
                self.queue.submit(job_id, reserved=False, first=True)
                raise
            self._clear(job_id)
            return job
        with self._running_lock:
            if job_id in self._running:
                job = self.store.request_cancel(job_id)
                self._running[job_id].set()
                return job
        # neither waiting nor running: it ended this moment, or its video is still being fetched
        return self.store.cancel(job_id)

    def delete(self, job_id: str) -> None:
        """Cancel if need be, then forget the job and its files. Raises JobNotFound."""
        job = self.store.get(job_id)
        if not job.status.is_terminal:
            try:
                self.cancel(job_id)
            except AlreadyFinished:
                log.info("ended while it was being deleted")
        self.store.delete(job_id)

    def eta_s(self, job: Job) -> float | None:
        """Seconds until this job is finished, its time in the queue included; None if unknown."""
        if job.status is JobStatus.RUNNING:
            return self.estimates.remaining_s(job)
        position = self.queue.position(job.job_id)
        if position is None:
            return None
        ahead = [self.store.peek(waiting) for waiting in self.queue.ids()[: position + 1]]
        with self._running_lock:
            running = [self.store.peek(running) for running in self._running]
        return self.estimates.queue_s(running, ahead, self.executor.capacity)


def from_os_error(exc: OSError) -> ServerFault:
    """A full disk has a name of its own; anything else of the disk is ours to look at."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("The disk of the server is full.")
    return InternalError("The server could not read or write its files.")
