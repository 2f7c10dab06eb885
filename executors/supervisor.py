"""A place for one child: started when it is needed, warm in between, ended when it is lost or idle.

Holds one conversation at a time (`converse`), a generator that never waits: local.py knows when
there is something to hear. Only one thread, that of the executor, starts and reaps children: Linux
ties a child's life to the thread that made it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import threading
import time
from collections.abc import Generator
from typing import Any

from errors import Cancelled, ServiceError, TimedOut
from executors.child_process import ChildOptions, ChildProcess
from job.task import JobFailed, Progress, Result, Task, WorkerLost

log = logging.getLogger(__name__)

CANCEL_GRACE_S = 10.0
"""A child that does not answer a cancel in this time is killed."""


class Deadline:
    """When an attempt has taken too long."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.begin()

    def begin(self) -> None:
        """The time counts from now."""
        self._at = time.monotonic() + self.limit_s

    def postpone(self, by_s: float) -> None:
        """These seconds were not the attempt's own."""
        self._at += by_s

    @property
    def has_passed(self) -> bool:
        """True if the attempt must end."""
        return time.monotonic() > self._at


class Resident:
    """At most one child; `selector` is told which pipe is its."""

    def __init__(self, options: ChildOptions, selector: selectors.BaseSelector) -> None:
        self.options = options
        self.child: ChildProcess | None = None
        self.broken: ServiceError | None = None
        self.loading: dict[str, int] | None = None
        self.is_busy = False
        self._selector = selector
        self._closed = False
        self._thread = 0
        self._idle_since = time.monotonic()
        self._lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """True once its child has loaded what it needs."""
        child = self.child
        return child is not None and child.is_ready

    @property
    def is_resting(self) -> bool:
        """True if the child was ended because nothing was to do."""
        return self.child is None and self.broken is None and not self._closed

    def start(self) -> ChildProcess:
        """The living child, a new one if need be. Raises WorkerLost."""
        child = self.child
        if child is not None and child.is_alive:
            return child
        if child is not None:
            self._drop(child)
        with self._lock:
            if self._closed:
                raise WorkerLost("the server is stopping")
            try:
                child = ChildProcess(self.options)
            except OSError as exc:
                raise WorkerLost(f"no child could be started: {exc.strerror}") from exc
            self.child, self._thread = child, threading.get_ident()
        self._selector.register(child.output, selectors.EVENT_READ)
        return child

    def look_after(self) -> None:
        """Hear what an idle child says; end it after IDLE_UNLOAD_SECONDS."""
        child = self.child
        if child is None or self.is_busy:
            return
        try:
            for event in child.events():
                self._note(child, event)
        except WorkerLost as lost:
            reason = self._drop(child)
            if not self._closed:
                log.error("the idle child is lost: %s; %s", lost, reason)
            return
        idle_s = time.monotonic() - self._idle_since
        if self.options.idle_unload_s and child.is_ready and idle_s > self.options.idle_unload_s:
            log.info("child %d ends: idle for %.0f s", child.pid, idle_s)
            self._drop(child)

    def close(self) -> None:
        """End the child, from any thread; the one that started it reaps it."""
        with self._lock:
            self._closed = True
            child = self.child
        if child is not None:
            child.kill()
            if threading.get_ident() == self._thread:
                self._drop(child)

    def read_ahead(self, task: Task) -> None:
        """Have a busy child read this task's frames beside what it does."""
        if self.is_busy and self.child is not None:
            with contextlib.suppress(WorkerLost):  # the conversation finds that out
                self.child.send({"do": "read", "task": task.to_dict()})

    # --- one conversation

    def converse(
        self, do: str, task: Task, deadline: Deadline, cancelled: threading.Event
    ) -> Generator[Progress | None, None, Result | None]:
        """Have the child `do` this (see child/main.py); the Result, unless that is to `make` only.

        Raises JobFailed (with TimedOut, once the deadline has passed), WorkerLost, Cancelled.
        """
        self.broken, self.is_busy = None, True
        child: ChildProcess | None = None
        try:
            child = self.start()
            return (yield from self._converse(child, do, task, deadline, cancelled))
        except WorkerLost as lost:
            if child is None:
                raise
            reason = self._drop(child)
            if cancelled.is_set():
                raise Cancelled from lost
            raise WorkerLost(f"{lost}; {reason}") from None
        except GeneratorExit:
            if child is not None:
                self._drop(child)  # or the next conversation would hear the end of this one
            raise
        finally:
            self._idle_since = time.monotonic()
            self.is_busy = False

    def _converse(
        self,
        child: ChildProcess,
        do: str,
        task: Task,
        deadline: Deadline,
        cancelled: threading.Event,
    ) -> Generator[Progress | None, None, Result | None]:
        child.send({"do": do, "task": task.to_dict()})
        give_up: float | None = None
        while True:
            for event in child.events():
                if event["is"] == "progress":
                    yield _progress(event)
                elif event["is"] == "finished":
                    return _result(event)
                elif event["is"] == "made" and do == "make":
                    return None
                elif event["is"] == "cancelled":
                    raise Cancelled
                elif event["is"] == "failed":
                    raise JobFailed(ServiceError.from_dict(event["error"]))
                else:
                    self._note(child, event)
                    if self.broken is not None:
                        raise JobFailed(self.broken)
                    deadline.begin()  # it loads
            now = time.monotonic()
            if cancelled.is_set() and give_up is None:
                child.send({"do": "cancel"})
                give_up = now + CANCEL_GRACE_S
            if give_up is not None and now > give_up:
                raise WorkerLost(f"no answer to a cancel for {CANCEL_GRACE_S:.0f} s")
            if deadline.has_passed:
                self._drop(child)
                limit = deadline.limit_s
                raise JobFailed(
                    TimedOut(f"The job took longer than {limit:.0f} s.", timeout_s=limit)
                )
            yield None

    def _note(self, child: ChildProcess, event: dict[str, Any]) -> None:
        """What a child says beside its jobs."""
        if event["is"] == "ready":
            child.is_ready, self.broken, self.loading = True, None, None
            log.info("child %d is ready", child.pid)
        elif event["is"] == "loading":
            self.loading = {k: int(event[k]) for k in ("done_bytes", "total_bytes")}
        elif event["is"] == "broken":
            self.broken = ServiceError.from_dict(event["error"])
            self._drop(child)

    def _drop(self, child: ChildProcess) -> str:
        """End and reap it; says how it ended."""
        if self.child is child:
            self._selector.unregister(child.output)
            with self._lock:
                self.child = None
        return child.end()


def _progress(event: dict[str, Any]) -> Progress:
    try:
        return Progress(**{key: value for key, value in event.items() if key != "is"})
    except TypeError:
        raise WorkerLost("the child sent a malformed progress") from None


def _result(event: dict[str, Any]) -> Result:
    try:
        return Result.from_dict(event["result"])
    except (KeyError, TypeError):
        raise WorkerLost("the child sent a malformed result") from None
