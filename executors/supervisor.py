"""Supervises one child: starts it when it is needed, keeps it between tasks, ends it when idle.

It is one slot of LocalExecutor, or exports files for all. It has one task at a time: `run_task`
sends it, `poll` turns the child's messages into events and checks the timeouts. It never waits:
local.py knows when there is something to read. Only the executor's thread starts and reaps
children: Linux ends a child with the thread that started it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import time
from dataclasses import dataclass
from typing import Any

from errors import ServiceError, TimedOut
from executors.base import ExecutorOptions, PipelineStatus, ProcessLost, SlotStatus
from executors.child_process import ChildProcess, child_environment
from job.logs import bound_to_job
from job.task import Event, Failed, Lost, Progress, Result, Stopped, Task
from pipeline import Gpu

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Computed:
    """The task's meshes are in its checkpoint; `time_left_s` is left to write its files."""

    time_left_s: float


class ChildSupervisor:
    """At most one child; its pipe is registered with `selector`. `name` is for the log.

    `prefetched` is the job whose frames the child was told to read. `failures` counts how often the
    child failed since it last did what it was asked: it ended, did not answer or could not load.
    """

    def __init__(
        self,
        options: ExecutorOptions,
        selector: selectors.BaseSelector,
        name: str,
        gpu: Gpu | None = None,
    ) -> None:
        self.options = options
        self.name = name
        self.child: ChildProcess | None = None
        self.task: Task | None = None
        self.fraction = 0.0  # of the task
        self.prefetched = ""
        self.failures = 0
        self.failed_at = 0.0  # on the monotonic clock
        self._gpu = gpu
        self._reported_gpu: Gpu | None = None
        self._was_idle = False  # the child was ended because it had nothing to do
        self._broken: ServiceError | None = None
        self._loading: dict[str, int] | None = None
        self._unreachable = ""  # why the child did not get the task
        self._time_left_s = 0.0  # for the task, once the child is ready
        self._deadline = 0.0
        self._cancel_deadline: float | None = None
        self._idle_since = time.monotonic()
        self._selector = selector
        self._closed = False
        self._thread = 0
        self._lock = threading.Lock()

    @property
    def status(self) -> PipelineStatus:
        """Unloaded if no child runs because none is needed."""
        child = self.child
        is_ready = child is not None and child.is_ready
        is_unloaded = child is None and self._broken is None and not self._closed
        gpu = self._reported_gpu or self._gpu
        return PipelineStatus(is_ready, is_unloaded, self._loading, self._broken, gpu)

    def summary(self, number: int) -> SlotStatus:
        is_lost = self.child is None and self.failures > 0 and not self.was_idle
        return SlotStatus(number, self.status, self.task is not None, is_lost)

    @property
    def is_loading(self) -> bool:
        """True while a child loads, for as long as others are to wait: `job_timeout_s`."""
        is_late = time.monotonic() > self._deadline
        return self.child is not None and not self.child.is_ready and not is_late

    @property
    def was_idle(self) -> bool:
        """True if the child was ended only because it was idle: the next one will load, too."""
        return self.child is None and self._was_idle

    # --- start and end of the child

    def start(self) -> ChildProcess:
        """The running child, or a new one. Raises ProcessLost."""
        child = self.child
        if child is not None and child.is_alive:
            return child
        self.terminate()
        config, gpu = self.options.child, self._gpu
        downloads = config.pipeline == "actionmesh"
        environment = child_environment(os.environ, downloads=downloads, gpu=gpu)
        with self._lock:
            if self._closed:
                raise ProcessLost("the server is stopping")
            try:
                child = ChildProcess(environment, config.memory_mb)
            except OSError as exc:
                self._note_failure()
                raise ProcessLost(f"no child could be started: {exc.strerror}") from exc
            self.child, self._thread = child, threading.get_ident()
        what = config.pipeline or "no pipeline"
        on = f" on {_described(gpu)}" if gpu else ""
        log.info("%s: child %d starts: %s%s", self.name, child.pid, what, on)
        self._selector.register(child.output, selectors.EVENT_READ)
        self._set_deadline()
        child.send({"do": "configure", "config": vars(config)})
        return child

    def terminate(self, *, idle: bool = False) -> str:
        """End and reap the child, if any; returns how it ended. A failure, unless it was idle."""
        child = self.child
        if child is None:
            return ""
        self._selector.unregister(child.output)
        with self._lock:
            self.child = None
        self._loading, self.prefetched = None, ""
        if idle:
            self._was_idle = True
        else:
            self._note_failure()
        return child.end()

    def close(self) -> None:
        """End the child, from any thread; the one that started it reaps it."""
        with self._lock:
            self._closed = True
            child = self.child
        if child is not None:
            child.kill()
            if threading.get_ident() == self._thread:
                self.terminate()

    def _note_failure(self) -> None:
        self.failures, self.failed_at = self.failures + 1, time.monotonic()
        self._was_idle = False

    # --- one task

    def run_task(self, do: str, task: Task, time_left_s: float) -> None:
        """Tell the child to `do` this (see child/main.py); `poll` reports how it ends."""
        self._broken, self._unreachable, self.task = None, "", task
        self.fraction, self._cancel_deadline, self._time_left_s = 0.0, None, time_left_s
        try:
            child = self.start()
            child.send({"do": do, "task": task.to_dict()})
            with bound_to_job(task.job_id):
                log.info("attempt %d: %s, child %d: %s", task.attempt, self.name, child.pid, do)
        except ProcessLost as lost:
            self._unreachable = str(lost)
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Of the task, whose time begins when the child is ready; until then, of loading."""
        is_ready = self.child is not None and self.child.is_ready
        limit_s = self._time_left_s if self.task and is_ready else self.options.job_timeout_s
        self._deadline = time.monotonic() + limit_s

    def prefetch(self, task: Task) -> None:
        """Let a busy child read this task's frames at the same time."""
        if self.task is not None and self.child is not None:
            with contextlib.suppress(ProcessLost):  # `poll` will report it
                self.child.send({"do": "prefetch", "task": task.to_dict()})
                self.prefetched = task.job_id

    def poll(self, *, is_cancelled: bool) -> list[Event | Computed]:
        """The new events of the task; any event but a Progress ends it.

        If it is cancelled, the child is told so, and killed if it does not answer.
        """
        child = self.child
        if child is None and self.task is None:
            return []
        events: list[Event | Computed] = []
        try:
            if child is None or self._unreachable:
                raise ProcessLost(self._unreachable or "the child has ended")
            for message in child.messages():
                event = self._read(child, message)
                events += [] if event is None else [event]
                if self.child is None:  # the pipeline could not be loaded
                    return events
            timed_out = self._check_time(child, is_cancelled)
            return [*events, timed_out] if timed_out else events
        except ProcessLost as lost:
            end = self.terminate()
            reason = f"{lost}; {end}" if end else str(lost)
        if self.task is not None:
            # a child that crashes while it loads does not do so because of the task
            crash = child.crash if child is not None and child.is_ready else ""
            events.append(Stopped() if is_cancelled else Lost(reason, crash))
            self._end_task()
        elif not self._closed:
            log.error("%s: the child is lost: %s", self.name, reason)
        return events

    def _read(self, child: ChildProcess, message: dict[str, Any]) -> Event | Computed | None:
        """Raises ProcessLost if a part of the message is missing or wrong."""
        kind = message.pop("is")
        try:
            if kind == "ready":
                self._note_ready(child, message["gpu"])
            elif kind == "loading":
                self._loading = {k: int(message[k]) for k in ("done_bytes", "total_bytes")}
                self._set_deadline()
            elif kind == "broken":
                self._broken = ServiceError.from_dict(message["error"])
                self.terminate()
            event = None if self.task is None else self._event(kind, message)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ProcessLost(f"the child sent a malformed {kind!r}") from None
        if isinstance(event, Progress):
            self.fraction = event.fraction
        elif event is not None:
            self._end_task()
            if self.child is not None:  # it answered
                self.failures = 0
        return event

    def _note_ready(self, child: ChildProcess, gpu: dict[str, Any] | None) -> None:
        """`gpu` is what the pipeline says of the card it is on; None if it says nothing."""
        self._reported_gpu = Gpu(**gpu) if gpu is not None else None
        child.is_ready, self._broken, self._loading = True, None, None
        self._set_deadline()
        self._idle_since = time.monotonic()
        on = f" on {_described(self._reported_gpu)}" if self._reported_gpu else ""
        log.info("%s: child %d is ready%s", self.name, child.pid, on)

    def _event(self, kind: str, message: dict[str, Any]) -> Event | Computed | None:
        if kind == "progress":
            return Progress.from_dict(message)
        if kind == "computed":
            return Computed(self._deadline - time.monotonic())
        if kind == "finished":
            return Result.from_dict(message["result"])
        if kind == "cancelled":
            return Stopped()
        if kind in ("failed", "broken"):
            return Failed(ServiceError.from_dict(message["error"]))
        return None

    def _check_time(self, child: ChildProcess, is_cancelled: bool) -> Failed | None:
        """Failed if the task took too long. Raises ProcessLost if a cancel got no answer."""
        now = time.monotonic()
        if self.task is None:
            idle_s, most_s = now - self._idle_since, self.options.idle_unload_s
            if most_s and child.is_ready and idle_s > most_s:
                log.info("%s: child %d ends: idle for %.0f s", self.name, child.pid, idle_s)
                self.terminate(idle=True)
            return None
        if is_cancelled and self._cancel_deadline is None:
            child.send({"do": "cancel"})
            self._cancel_deadline = now + self.options.cancel_grace_s
        if self._cancel_deadline is not None and now > self._cancel_deadline:
            raise ProcessLost(f"a cancel got no answer for {self.options.cancel_grace_s:.0f} s")
        if now <= self._deadline:
            return None
        is_loading = not child.is_ready
        limit_s = self.options.job_timeout_s if is_loading else self.options.time_limit_s(self.task)
        self._end_task()
        self.terminate()
        return Failed(TimedOut(f"The job took longer than {limit_s:.0f} s.", timeout_s=limit_s))

    def _end_task(self) -> None:
        self.task, self._idle_since = None, time.monotonic()


def _described(gpu: Gpu) -> str:
    selector = f", CUDA_VISIBLE_DEVICES={gpu.selector}" if gpu.selector else ""
    return f"{gpu.name} with {gpu.memory_gb:.1f} GB{selector}"
