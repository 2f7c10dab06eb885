"""The loop: ONE background thread takes jobs from the queue and handles what the executor reports.

`run_once` begins a job if the executor has room, and waits for events; the thread only repeats it.
attempt.py stores how an attempt starts and ends. Accepting a job means: reserve a place (before its
body is read), then submit it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from errors import AlreadyFinished, InternalError, JobNotFound
from executors.base import POLL_S, Executor
from job.folder import JobsFolder
from job.logs import bound_to_job
from job.state import Job, JobStatus
from job.task import MAX_ATTEMPTS, Event, Progress, Task
from job_store import JobStore
from worker.attempt import AttemptRecorder
from worker.queue import JobQueue

log = logging.getLogger(__name__)


@dataclass
class _Running:
    """`began` is on the monotonic clock."""

    task: Task
    began: float = field(default_factory=time.monotonic)
    is_cancelled: bool = False


class Worker:
    """Runs jobs until stopped. All public methods but `run_once` may be called from any thread."""

    def __init__(
        self,
        store: JobStore,
        folder: JobsFolder,
        executor: Executor,
        *,
        max_queue: int = 32,
        keep_input: bool = True,
    ) -> None:
        self.store = store
        self._folder = folder
        self.executor = executor
        self.queue = JobQueue(max_queue, executor.wake)
        self.recovered = threading.Event()
        self.after_recovery: Callable[[list[Job]], None] = lambda _jobs: None
        self._stopping = threading.Event()
        self._recorder = AttemptRecorder(store, folder, self._stopping, keep_input)
        self.estimates = self._recorder.estimates
        self._prefetched: str | None = None
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()  # guards `_running`
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    # --- start and stop

    def start(self) -> None:
        """Recover the last server's jobs, then run jobs."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """False if the thread has ended: then the server must be restarted."""
        return self._thread.is_alive()

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no more jobs; running ones may end within `grace_s`, else they are requeued."""
        self._stopping.set()
        self.queue.close()
        if self._running:
            self._thread.join(grace_s)
        self.executor.close()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _run(self) -> None:
        try:
            self._recover()
            self.executor.start()
            while self._running or not self._stopping.is_set():
                self.run_once()
        except Exception:
            log.exception("the worker thread ended by an error")
        finally:
            self.executor.close()

    def run_found(self, jobs: list[Job]) -> None:
        """Run jobs that were found on disk while the server runs, in their order."""
        self.after_recovery(self._queue_found(jobs))

    def _queue_found(self, jobs: list[Job]) -> list[Job]:
        """The jobs whose input must be downloaded first; the others wait in the queue."""
        waiting_for_input = []
        for job in jobs:
            if job.waiting_for_input:
                waiting_for_input.append(job)
            elif job.attempts >= MAX_ATTEMPTS:
                self._recorder.fail_after_losses(job.job_id, job.attempts)
            else:
                self.queue.submit(job.job_id, reserved=False)
        return waiting_for_input

    def _recover(self) -> None:
        waiting_for_input = self._queue_found(self.store.recover())
        if not self._recorder.keep_input:  # the last server may have ended before it removed them
            for ended in self.store.ended():
                self._folder.remove_input(ended.job_id)
        self.recovered.set()
        self.after_recovery(waiting_for_input)

    # --- the loop

    def run_once(self, timeout_s: float = POLL_S) -> bool:
        """Begin the next job if there is room, wait for events, handle them. True if one began."""
        began = self.executor.has_room and self._begin()
        events: list[tuple[Task, Event]] = []
        with self._failing_on_a_bug(*self._running):
            events = self.executor.poll(0.0 if began else timeout_s)
        for task, event in events:
            running = self._running.get(task.job_id)
            if running is not None and running.task == task:  # else an old attempt
                with bound_to_job(task.job_id), self._failing_on_a_bug(task.job_id):
                    self._handle(running, event)
        self._prefetch()
        return began

    @contextlib.contextmanager
    def _failing_on_a_bug(self, *job_ids: str) -> Iterator[None]:
        """An unexpected error inside fails these jobs; with no job it is raised."""
        try:
            yield
        except Exception:
            if not job_ids:
                raise
            for job_id in job_ids:
                with bound_to_job(job_id):
                    log.exception("a bug in the server ended the job")
                    self.executor.cancel(job_id)
                    self._recorder.fail_with(job_id, InternalError())
                with self._lock:
                    self._running.pop(job_id, None)

    def _begin(self) -> bool:
        job_id = self.queue.take()
        if job_id is None:
            return False
        with bound_to_job(job_id), self._failing_on_a_bug(job_id):
            try:
                with self._lock:  # so that a cancel finds the job either queued or running
                    task = self._recorder.start(job_id)
                    if task is None:
                        return True
                    running = self._running[job_id] = _Running(task)
            except JobNotFound:
                log.info("deleted before it ran")
            except OSError as exc:
                self.queue.submit(job_id, reserved=False, first=True)
                self._recorder.wait_for_disk(exc)
            else:
                self.executor.submit(task)
                if running.is_cancelled:  # before the executor knew the job
                    self.executor.cancel(job_id)
        return True

    def _prefetch(self) -> None:
        """Name the first job of the queue to the executor, once: after `poll`, which assigns."""
        job_id = next(iter(self.queue.ids()), None)
        if job_id != self._prefetched and not self.executor.has_room:
            self._prefetched = job_id
            job = self.store.peek(job_id) if job_id else None
            if job is not None:
                self.executor.prefetch(self._recorder.task(job))

    def _handle(self, running: _Running, event: Event) -> None:
        task, again = running.task, False
        if isinstance(event, Progress):
            self.store.report(task.job_id, event)
            return
        try:
            took_s = time.monotonic() - running.began
            again = self._recorder.commit_outcome(
                task, event, took_s, is_cancelled=running.is_cancelled
            )
        except JobNotFound:
            log.info("deleted while it ran")
        with self._lock:
            del self._running[task.job_id]
        if again and running.is_cancelled:  # the cancel came after the attempt was lost
            with contextlib.suppress(AlreadyFinished, JobNotFound):
                self._recorder.cancel(task.job_id)
        elif again:
            self.queue.submit(task.job_id, reserved=False, first=True)

    # --- cancel, delete, estimates

    def cancel(self, job_id: str) -> Job:
        """Queued: cancelled on return. Running: asked to stop. Raises AlreadyFinished."""
        self.store.get(job_id)
        was_waiting = self.queue.remove(job_id)
        with self._lock:
            running = self._running.get(job_id)
            if running is not None:
                job = self.store.request_cancel(job_id)
                running.is_cancelled = True
                self.executor.cancel(job_id)
                return job
            # it waits, its video is still being fetched, or it has just ended
            self._folder.remove_checkpoint(job_id)
            try:
                job = self.store.cancel(job_id)
            except OSError:
                if was_waiting:
                    self.queue.submit(job_id, reserved=False, first=True)
                raise
        self._recorder.remove_input(job_id)
        return job

    def delete(self, job_id: str) -> None:
        """Cancel the job if it has not ended, then delete it and its files. Raises JobNotFound."""
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
        running = [self.store.peek(running) for running in list(self._running)]
        return self.estimates.queue_s(running, ahead, self.executor.capacity)
