"""Jobs on this machine: one permanent child for the whole job, or a second one for its files.

With a GPU (`separate_files`) the compute child begins its next job as soon as the meshes of the
last one are on disk: the export child makes the files from the checkpoint. It loads no pipeline,
and torch only if PyTorch3D draws the preview. A failure of one child does not affect the other.
Without a GPU both parts need the same cores, so one child does them one after the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
from dataclasses import replace

from executors.base import ExecutorOptions, PipelineStatus, ProcessLost
from executors.supervisor import ChildSupervisor, Computed
from job.task import Event, Progress, Stopped, Task

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
        self._children = [self.compute]
        self.export: ChildSupervisor | None = None
        if options.separate_files:
            config = replace(options.child, pipeline="", memory_mb=0)
            self.export = ChildSupervisor(replace(options, child=config), self._selector)
            self._children.append(self.export)
        self._computed: tuple[Task, float] | None = None  # waits for the export child
        self._cancel_wanted: dict[str, bool] = {}  # running jobs

    @property
    def has_room(self) -> bool:
        """True while the compute child is free and no meshes wait for the export child."""
        return self.compute.task is None and self._computed is None

    @property
    def status(self) -> PipelineStatus:
        return self.compute.status

    def start(self) -> None:
        for child in self._children:
            try:
                child.start()
            except ProcessLost as lost:  # the first attempt tries again
                log.warning("a child could not be started: %s", lost)

    def submit(self, task: Task) -> None:
        self._cancel_wanted[task.job_id] = False
        limit_s = self.options.job_timeout_s
        if self.export is None:
            self.compute.run_task("run", task, limit_s)
        elif task.checkpoint.is_dir():
            self._computed = task, limit_s
        else:
            self.compute.run_task("compute", task, limit_s)
        self.wake()

    def cancel(self, job_id: str) -> None:
        if self._cancel_wanted.get(job_id) is False:
            self._cancel_wanted[job_id] = True
            self.wake()

    def prefetch(self, task: Task) -> None:
        """Read the next job's frames while the GPU is busy; without a GPU no core is free."""
        if self.export is not None and not task.checkpoint.is_dir():
            self.compute.prefetch(task)

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        self._selector.select(timeout_s)
        self._wakeup.clear()
        events: list[tuple[Task, Event]] = []
        for child in self._children:
            task = child.task
            is_cancelled = task is not None and self._cancel_wanted[task.job_id]
            for event in child.poll(is_cancelled=is_cancelled):
                assert task is not None, "an idle child has no events"
                if isinstance(event, Computed):
                    self._computed = task, event.time_left_s
                else:
                    events.append((task, event))
        events += self._next_export()
        for task, event in events:
            if not isinstance(event, Progress):
                del self._cancel_wanted[task.job_id]
        return events

    def wake(self) -> None:
        self._wakeup.notify()

    def close(self) -> None:
        """From any thread; children of another thread are reaped there."""
        for child in self._children:
            child.close()
        self.wake()

    def _next_export(self) -> list[tuple[Task, Event]]:
        """Give the waiting meshes to the export child once it is free; a cancelled job ends."""
        if self._computed is None or self.export is None:
            return []
        task, time_left_s = self._computed
        is_cancelled = self._cancel_wanted[task.job_id]
        if self.export.task is not None and not is_cancelled:
            return []
        self._computed = None
        if is_cancelled:
            return [(task, Stopped())]
        self.export.run_task("export", task, time_left_s)
        self.wake()
        return []


class WakeupPipe:
    """Ends a `select` of another thread: readable from `notify`, in any thread, until `clear`."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)

    def fileno(self) -> int:
        return self._read_end

    def notify(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full, so it is already readable
            os.write(self._write_end, b"!")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_end, 1 << 16)

    def __del__(self) -> None:
        os.close(self._read_end)
        os.close(self._write_end)
