"""One resident child process on this machine, supervised by the thread that calls `run`.

The child loads the pipeline once and stays warm. A crash, a hang or a cancel that goes unanswered
ends the child, with everything it started, and never the server. Only the worker thread may start
children: Linux ties a child's life to the thread that made it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from errors import Cancelled, ServiceError, TimedOut
from executors.base import JobFailed, Progress, Result, Task, WorkerLost
from executors.child_process import ChildOptions, ChildProcess

__all__ = ["ChildOptions", "LocalExecutor"]

log = logging.getLogger(__name__)

CANCEL_GRACE_S = 10.0
"""A child that does not answer a cancel in this time is killed."""
LOOK_EVERY_S = 0.1
"""How often a running job looks for cancel and deadline."""


class LocalExecutor:
    """Runs tasks in one child; starts a new one when the last is gone."""

    capacity = 1

    def __init__(self, options: ChildOptions) -> None:
        self.options = options
        self.broken: ServiceError | None = None
        self.loading: dict[str, int] | None = None
        self._child: ChildProcess | None = None
        self._closed = False
        self._busy = False
        self._idle_since = time.monotonic()
        self._lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """True once a child has loaded its pipeline (it may since rest, if asked to)."""
        child = self._child
        return child is not None and child.is_ready

    @property
    def is_resting(self) -> bool:
        """True if the child was ended because nothing was to do."""
        return self._child is None and self.broken is None and not self._closed

    def start(self) -> None:
        """Start the child and let it load while nothing waits for it."""
        self._living_child()

    def rest(self) -> None:
        """Keep an eye on an idle child; end it after IDLE_UNLOAD_SECONDS."""
        child = self._child
        if child is None:
            return
        try:
            for event in child.events(0.0):
                self._note(child, event)
        except WorkerLost as lost:
            log.error("the idle child is lost: %s; %s", lost, child.end())
            self._drop(child)
            return
        idle_s = time.monotonic() - self._idle_since
        if self.options.idle_unload_s and child.is_ready and idle_s > self.options.idle_unload_s:
            log.info("child %d ends: idle for %.0f s", child.pid, idle_s)
            self._drop(child)

    def run(
        self, task: Task, on_progress: Callable[[Progress], None], cancelled: threading.Event
    ) -> Result:
        """See executors.base.Executor. A deadline that passes is a JobFailed with TimedOut."""
        self.broken = None
        with self._lock:
            self._busy = True
        child: ChildProcess | None = None
        try:
            child = self._living_child()
            return self._run(child, task, on_progress, cancelled)
        except WorkerLost as lost:
            if child is None:
                raise
            reason = child.end()
            self._drop(child)
            if cancelled.is_set():
                raise Cancelled from lost
            raise WorkerLost(f"{lost}; {reason}") from None
        finally:
            self._idle_since = time.monotonic()
            with self._lock:
                self._busy = False

    def close(self) -> None:
        """End the child; a run under way raises WorkerLost, and reaps it."""
        with self._lock:
            self._closed = True
            child, busy = self._child, self._busy
        if child is not None:
            child.kill()
            if not busy:
                self._drop(child)

    # --- one run

    def _run(
        self,
        child: ChildProcess,
        task: Task,
        on_progress: Callable[[Progress], None],
        cancelled: threading.Event,
    ) -> Result:
        child.send({"do": "run", "task": task.as_record()})
        deadline = time.monotonic() + self.options.job_timeout_s
        give_up: float | None = None
        while True:
            for event in child.events(LOOK_EVERY_S):
                if event["is"] == "progress":
                    on_progress(_progress(event))
                elif event["is"] == "finished":
                    return _result(event)
                elif event["is"] == "cancelled":
                    raise Cancelled
                elif event["is"] == "failed":
                    raise JobFailed(ServiceError.from_record(event["error"]))
                else:
                    self._note(child, event)
                    if self.broken is not None:
                        raise JobFailed(self.broken)
                    deadline = time.monotonic() + self.options.job_timeout_s  # it loads
            now = time.monotonic()
            if cancelled.is_set() and give_up is None:
                child.send({"do": "cancel"})
                give_up = now + CANCEL_GRACE_S
            if give_up is not None and now > give_up:
                raise WorkerLost(f"no answer to a cancel for {CANCEL_GRACE_S:.0f} s")
            if now > deadline:
                self._drop(child)
                limit = self.options.job_timeout_s
                raise JobFailed(
                    TimedOut(f"The job took longer than {limit:.0f} s.", timeout_s=limit)
                )

    def _note(self, child: ChildProcess, event: dict[str, Any]) -> None:
        """What a child says beside its jobs."""
        if event["is"] == "ready":
            child.is_ready, self.broken, self.loading = True, None, None
            log.info("child %d is ready", child.pid)
        elif event["is"] == "loading":
            self.loading = {k: int(event[k]) for k in ("done_bytes", "total_bytes")}
        elif event["is"] == "broken":
            self.broken = ServiceError.from_record(event["error"])
            self._drop(child)

    def _living_child(self) -> ChildProcess:
        child = self._child
        if child is not None and child.is_alive:
            return child
        if child is not None:
            self._drop(child)
        with self._lock:
            if self._closed:
                raise WorkerLost("the server is stopping")
            try:
                self._child = ChildProcess(self.options)
            except OSError as exc:
                raise WorkerLost(f"no child could be started: {exc.strerror}") from exc
            return self._child

    def _drop(self, child: ChildProcess) -> None:
        child.end()
        with self._lock:
            if self._child is child:
                self._child = None


def _progress(event: dict[str, Any]) -> Progress:
    try:
        return Progress(**{key: value for key, value in event.items() if key != "is"})
    except TypeError:
        raise WorkerLost("the child sent a progress that is none") from None


def _result(event: dict[str, Any]) -> Result:
    try:
        return Result.from_record(event["result"])
    except (KeyError, TypeError):
        raise WorkerLost("the child sent a result that is none") from None
