"""Jobs on this machine: one permanent child for the whole job, or a second one for its files.

With a GPU (`separate_files`) the compute child begins its next job as soon as the meshes of the
last one are on disk: the export child makes the files from the checkpoint. It loads no pipeline,
and torch only if PyTorch3D draws the preview. A failure of one child does not affect the other.
Without a GPU both parts need the same cores, so one child does them one after the other.
"""

from __future__ import annotations

import logging
import selectors
from dataclasses import replace

from errors import ServiceError
from executors.base import ExecutorOptions, ProcessLost
from executors.supervisor import ChildSupervisor, Computed
from executors.wakeup import WakeupPipe
from job.task import Event, Lost, Progress, Stopped, Task

log = logging.getLogger(__name__)


class LocalExecutor:
    """Supervises its children in the one thread that polls it."""

    capacity = 1

    def __init__(self, options: ExecutorOptions) -> None:
        self.options = options
        self._wakeup = WakeupPipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self.compute = ChildSupervisor(options, self._selector)
        self.export: ChildSupervisor | None = None
        if options.separate_files:
            config = replace(options.child, pipeline="", memory_mb=0)
            self.export = ChildSupervisor(replace(options, child=config), self._selector)
        self._computed: tuple[Task, float] | None = None  # waits for the export child
        self._running: set[str] = set()
        self._cancelled: set[str] = set()
        self._events: list[tuple[Task, Event]] = []
        self._closed = False

    @property
    def has_room(self) -> bool:
        """True while the compute child is free and no meshes wait for the export child."""
        return self.compute.task is None and self._computed is None

    @property
    def is_ready(self) -> bool:
        return self.compute.is_ready

    @property
    def is_unloaded(self) -> bool:
        return self.compute.is_unloaded

    @property
    def loading(self) -> dict[str, int] | None:
        return self.compute.loading

    @property
    def broken(self) -> ServiceError | None:
        return self.compute.broken

    def start(self) -> None:
        for child in self._children():
            try:
                child.start()
            except ProcessLost as lost:  # the first attempt tries again
                log.warning("a child could not be started: %s", lost)

    def submit(self, task: Task) -> None:
        self._cancelled.discard(task.job_id)  # may be from an earlier attempt
        self._running.add(task.job_id)
        limit_s = self.options.job_timeout_s
        if self.export is None:
            self._run(self.compute, "run", task, limit_s)
        elif task.checkpoint.is_dir():
            self._computed = task, limit_s
        else:
            self._run(self.compute, "compute", task, limit_s)
        self._next_export()

    def cancel(self, job_id: str) -> None:
        if job_id in self._running:
            self._cancelled.add(job_id)
            self.wake()

    def prefetch(self, task: Task) -> None:
        """Read the next job's frames while the GPU is busy; without a GPU no core is free."""
        if self.export is not None and not task.checkpoint.is_dir():
            self.compute.prefetch(task)

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        self._selector.select(0.0 if self._events else timeout_s)
        self._wakeup.clear()
        for child in self._children():
            task = child.task
            if task is not None and task.job_id in self._cancelled:
                child.cancel()
            for event in child.poll():
                assert task is not None, "an idle child has no events"
                if isinstance(event, Computed):
                    self._computed = task, event.time_left_s
                else:
                    self._add_event(task, event)
        self._next_export()
        events, self._events = self._events, []
        return events

    def wake(self) -> None:
        self._wakeup.notify()

    def close(self) -> None:
        """From any thread; children of another thread are reaped there."""
        self._closed = True
        for child in self._children():
            child.close()
        self.wake()

    def _children(self) -> list[ChildSupervisor]:
        return [self.compute] if self.export is None else [self.compute, self.export]

    def _run(self, child: ChildSupervisor, do: str, task: Task, time_left_s: float) -> None:
        if lost := child.run_task(do, task, time_left_s):
            self._add_event(task, lost)

    def _next_export(self) -> None:
        """Give the waiting meshes to the export child, once it is free."""
        if self._computed is None or self.export is None:
            return
        task, time_left_s = self._computed
        if self._closed:
            self._add_event(task, Lost("the server is stopping"))
        elif task.job_id in self._cancelled:
            self._add_event(task, Stopped())
        elif self.export.task is None:
            self._run(self.export, "export", task, time_left_s)
        else:
            return
        self._computed = None

    def _add_event(self, task: Task, event: Event) -> None:
        self._events.append((task, event))
        if not isinstance(event, Progress):
            self._running.discard(task.job_id)
            self._cancelled.discard(task.job_id)
