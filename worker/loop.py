"""The loop: ONE background thread takes jobs from the queue and goes on with what is under way.

`turn` does what can be done now and waits for news; the thread only repeats it. How one attempt
goes and ends stands in attempt.py. Accepting a job means: reserve a place (before its body is
read), then submit it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from errors import AlreadyFinished, InternalError, JobNotFound
from executors.base import LOOK_EVERY_S, Executor
from job.folder import JobsFolder
from job.state import Job, JobStatus
from job_store import JobStore
from logs import bound_to_job
from worker.attempt import MAX_ATTEMPTS, Attempts, Steps
from worker.queue import JobQueue

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _UnderWay:
    """An attempt that has begun; whoever sets `cancelled` wakes the executor."""

    job_id: str
    cancelled: threading.Event
    steps: Steps


class Worker:
    """Runs jobs until stopped. All public methods but `turn` may be called from any thread."""

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
        self._keep_input = keep_input
        self._stopping = threading.Event()
        self._attempts = Attempts(store, folder, executor, self._stopping, keep_input=keep_input)
        self.estimates = self._attempts.estimates
        self._expected: str | None = None
        self._under_way: dict[str, _UnderWay] = {}
        self._lock = threading.Lock()  # of what is under way
        self._thread = threading.Thread(target=self._live, name="worker", daemon=True)

    # --- life

    def start(self) -> None:
        """Begin to recover what the last server left, and to take jobs."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """False if the thread died: then only a restart helps."""
        return self._thread.is_alive()

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no more jobs; running ones may end within the grace, else they are given back."""
        self._stopping.set()
        self.queue.close()
        if self._under_way:
            self._thread.join(grace_s)
        self.executor.close()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _live(self) -> None:
        try:
            self._recover()
            self.executor.start()
            while self._under_way or not self._stopping.is_set():
                self.turn()
        except Exception:
            log.exception("the worker thread died")
        finally:
            self.executor.close()

    def _recover(self) -> None:
        waiting_for_input = []
        for job in self.store.recover():
            if job.waiting_for_input:
                waiting_for_input.append(job)
            elif job.attempts >= MAX_ATTEMPTS:
                self._attempts.record(job.job_id, partial(self._attempts.give_up, job))
            else:
                self.queue.submit(job.job_id, reserved=False)
        if not self._keep_input:  # the last server may have died before it came to that
            for ended in self.store.ended():
                self._folder.remove_input(ended.job_id)
        self.recovered.set()
        self.after_recovery(waiting_for_input)

    # --- the loop

    def turn(self, timeout_s: float = LOOK_EVERY_S) -> bool:
        """Go on with what is under way, begin the next job if there is room, wait for news.

        There is nothing to wait for if one ended or began. True if one began.
        """
        going_on = [self._go_on(attempt) for attempt in list(self._under_way.values())]
        began = self.executor.has_room and self._begin()
        self._look_ahead()
        self.executor.wait(timeout_s if all(going_on) and not began else 0.0)
        return began

    def _begin(self) -> bool:
        job_id = self.queue.take()
        if job_id is None:
            return False
        cancelled = threading.Event()
        attempt = _UnderWay(job_id, cancelled, self._attempts.steps(job_id, cancelled))
        with self._lock:
            self._under_way[job_id] = attempt
        self._go_on(attempt)
        return True

    def _look_ahead(self) -> None:
        """Tell the executor, once, which job waits at the head of the queue."""
        job_id = self.queue.first()
        if job_id != self._expected:
            self._expected = job_id
            job = self.store.peek(job_id) if job_id else None
            if job is not None and not self.executor.has_room:
                self.executor.expect(self._attempts.task(job))

    def _go_on(self, attempt: _UnderWay) -> bool:
        """False if it has ended."""
        job_id, again = attempt.job_id, False
        with bound_to_job(job_id):
            try:
                next(attempt.steps)
                return True
            except StopIteration as end:
                again = end.value
            except JobNotFound:
                log.info("deleted while it ran")
            except Exception:
                log.exception("a bug of ours ended the job")
                error = InternalError()
                self._attempts.fail_on(job_id, error)
            with self._lock:
                del self._under_way[job_id]
            if again:
                self._try_again(job_id, attempt.cancelled)
        return False

    def _try_again(self, job_id: str, cancelled: threading.Event) -> None:
        if cancelled.is_set():  # asked for after the attempt was lost
            with contextlib.suppress(AlreadyFinished, JobNotFound):
                self._attempts.record(job_id, partial(self.store.cancel, job_id))
        else:
            self.queue.submit(job_id, reserved=False, first=True)

    # --- cancel, delete, estimates

    def cancel(self, job_id: str) -> Job:
        """Queued: cancelled on return. Running: asked to stop. Raises AlreadyFinished."""
        job = self.store.get(job_id)
        if job.status is JobStatus.QUEUED and self.queue.remove(job_id):
            self._folder.remove_checkpoint(job_id)
            try:
                job = self.store.cancel(job_id)
            except OSError:
                self.queue.submit(job_id, reserved=False, first=True)
                raise
            self._attempts.clear(job_id)
            return job
        with self._lock:
            if job_id in self._under_way:
                job = self.store.request_cancel(job_id)
                self._under_way[job_id].cancelled.set()
                self.executor.wake()
                return job
        # neither waiting nor running: it ended this moment, or its video is still being fetched
        job = self.store.cancel(job_id)
        self._folder.remove_checkpoint(job_id)
        self._attempts.clear(job_id)
        return job

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
        with self._lock:
            running = [self.store.peek(running) for running in self._under_way]
        return self.estimates.queue_s(running, ahead, self.executor.capacity)
