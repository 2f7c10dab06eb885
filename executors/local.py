"""Jobs on this machine: one permanent child per GPU; with `separate_files` others write the files.

Each GPU is a slot with a compute child. With `separate_files` it begins its next job as soon as the
meshes of the last one are on disk: an export child makes the files from the checkpoint. That loads
no pipeline, and torch only if PyTorch3D draws the preview. A failure of one child does not affect
the others. Without a GPU both parts need the same cores, so one child does both in turn.

The children load one after another: each may need as much host memory as the weights have bytes
while it loads (16 GB), and the first one downloads them for all. A slot whose child failed gets no
job while others work, until a new child is ready there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import time
from collections.abc import Callable
from dataclasses import replace

from executors.base import ExecutorOptions, PipelineStatus, ProcessLost, SlotStatus, overall
from executors.supervisor import ChildSupervisor, Computed
from job.task import Event, Failed, Progress, Stopped, Task

log = logging.getLogger(__name__)

EXPORT_MEMORY_MB = 8192
"""31 meshes of a million triangles need 0.7 GB, measured, so that 121 need 2.8; PyTorch3D needs
more, for CUDA."""
RETRY_S = 30.0
"""After a second failure in a row a slot waits so long, then twice as long each time."""
MAX_RETRY_S = 900.0

Waiting = tuple[Task, float]
"""A task that has no child yet, and how many seconds it may take."""


class LocalExecutor:
    """Supervises its children in the one thread that polls it."""

    def __init__(self, options: ExecutorOptions) -> None:
        self.capacity = len(options.gpus)
        options = replace(options, child=replace(options.child, sharing=self.capacity))
        self.options = options
        self._wakeup = WakeupPipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self.slots = [
            ChildSupervisor(options, self._selector, f"slot {number}", gpu)
            for number, gpu in enumerate(options.gpus)
        ]
        self.exports: list[ChildSupervisor] = []
        if options.separate_files:
            config = replace(options.child, pipeline="", memory_mb=EXPORT_MEMORY_MB)
            for number, gpu in enumerate(options.gpus):
                child = replace(options, child=config)
                name = f"export {number}"
                self.exports.append(ChildSupervisor(child, self._selector, name, gpu))
        self._is_started = False
        self._waiting: list[Waiting] = []  # for a slot
        self._computed: list[Waiting] = []  # for an export child
        self._cancel_wanted: dict[str, bool] = {}  # waiting and running jobs

    @property
    def has_room(self) -> bool:
        """True if a slot can take a task and not too many meshes wait for an export child."""
        is_behind = self._waiting or len(self._computed) >= self.capacity
        return not is_behind and self._slot_for("") is not None

    @property
    def status(self) -> PipelineStatus:
        return overall(self.slot_statuses)

    @property
    def slot_statuses(self) -> tuple[SlotStatus, ...]:
        return tuple(slot.summary(number) for number, slot in enumerate(self.slots))

    def start(self) -> None:
        self._is_started = True
        self._load_next()
        for export in self.exports:
            _try_to_start(export)

    def submit(self, task: Task) -> None:
        self._cancel_wanted[task.job_id] = False
        is_computed = self.exports and task.checkpoint.is_dir()
        waiting = self._computed if is_computed else self._waiting
        waiting.append((task, self.options.time_limit_s(task)))
        self.wake()

    def cancel(self, job_id: str) -> None:
        if self._cancel_wanted.get(job_id) is False:
            self._cancel_wanted[job_id] = True
            self.wake()

    def prefetch(self, task: Task) -> None:
        """Read the next job's frames where a GPU is probably free first; without one no core is."""
        busy = [slot for slot in self.slots if slot.task is not None]
        if self.exports and busy and not task.checkpoint.is_dir():
            max(busy, key=lambda slot: slot.fraction).prefetch(task)

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        self._selector.select(timeout_s)
        self._wakeup.clear()
        events: list[tuple[Task, Event]] = []
        for slot in self.slots:
            for task, event in self._poll_child(slot):
                if isinstance(event, Failed) and self._can_run_elsewhere(slot):
                    log.warning("%s cannot load: its job goes to another one", slot.name)
                    self._waiting.append((task, self.options.time_limit_s(task)))
                else:
                    events.append((task, event))
        for export in self.exports:
            events += self._poll_child(export)
        do = "compute" if self.exports else "run"
        events += self._assign(self._waiting, do, self._slot_for)
        events += self._assign(self._computed, "export", self._free_export)
        for task, event in events:
            if not isinstance(event, Progress):
                del self._cancel_wanted[task.job_id]
        if self._is_started:
            self._load_next()
        return events

    def wake(self) -> None:
        self._wakeup.notify()

    def close(self) -> None:
        """From any thread; children of another thread are reaped there."""
        self._is_started = False
        for child in (*self.slots, *self.exports):
            child.close()
        self.wake()

    # --- which slot

    def _slot_for(self, job_id: str) -> ChildSupervisor | None:
        """The best free slot: one that is ready, or that was only idle, if nothing else loads now.

        While no slot works, any: as with one child, the attempt starts it.
        """
        free = [slot for slot in self.slots if slot.task is None]
        if ready := [slot for slot in free if slot.status.is_ready]:
            return min(ready, key=lambda slot: (slot.prefetched != job_id, slot.failures))
        if not self._any_works():
            return min(free, key=_unlikely_to_work)
        if any(slot.is_loading for slot in self.slots):
            return None
        return next((slot for slot in free if slot.was_idle), None)

    def _any_works(self) -> bool:
        return any(slot.task is not None or slot.status.is_ready for slot in self.slots)

    def _can_run_elsewhere(self, slot: ChildSupervisor) -> bool:
        """True if this slot cannot load its pipeline, but another one perhaps can."""
        return slot.status.broken is not None and any(not s.status.broken for s in self.slots)

    def _load_next(self) -> None:
        """Start the child of one slot that has none, unless another child is loading.

        A child that failed is replaced only while other slots work: else the next job does that.
        """
        if any(slot.is_loading for slot in self.slots):
            return
        now, others_work = time.monotonic(), self._any_works()
        for slot in self.slots:
            is_first = slot.failures == 0
            if slot.child is None and not slot.was_idle and (is_first or others_work):
                if now >= slot.failed_at + _retry_delay_s(slot.failures):
                    _try_to_start(slot)
                    return

    # --- tasks

    def _poll_child(self, child: ChildSupervisor) -> list[tuple[Task, Event]]:
        """The events of this child's task, except that its meshes are computed."""
        task = child.task
        is_cancelled = task is not None and self._cancel_wanted[task.job_id]
        events: list[tuple[Task, Event]] = []
        for event in child.poll(is_cancelled=is_cancelled):
            assert task is not None, "an idle child has no events"
            if isinstance(event, Computed):
                self._computed.append((task, event.time_left_s))
            else:
                events.append((task, event))
        return events

    def _assign(
        self, waiting: list[Waiting], do: str, find: Callable[[str], ChildSupervisor | None]
    ) -> list[tuple[Task, Event]]:
        """Give the waiting tasks to the children that `find` finds; a cancelled one ends."""
        stopped: list[tuple[Task, Event]] = []
        for task, time_left_s in list(waiting):
            if self._cancel_wanted[task.job_id]:
                stopped.append((task, Stopped()))
            elif child := find(task.job_id):
                child.run_task(do, task, time_left_s)
                self.wake()  # it may have failed at once
            else:
                continue
            waiting.remove((task, time_left_s))
        return stopped

    def _free_export(self, _: str) -> ChildSupervisor | None:
        return next((child for child in self.exports if child.task is None), None)


def _try_to_start(child: ChildSupervisor) -> None:
    try:
        child.start()
    except ProcessLost as lost:  # the next attempt tries again
        log.warning("%s: the child could not be started: %s", child.name, lost)


def _unlikely_to_work(slot: ChildSupervisor) -> tuple[bool, bool, bool, float]:
    """Sorts slots without a pipeline: one that loads, then those that failed longest ago.

    Last those that hang while they load, and after them broken ones: else a job that is handed on
    would come back to the same slot for ever.
    """
    is_broken, hangs = slot.status.broken is not None, slot.child is not None
    return not slot.is_loading, is_broken, hangs, slot.failed_at


def _retry_delay_s(failures: int) -> float:
    """The first failure costs no time; a slot that fails again and again must not take all jobs."""
    return min(MAX_RETRY_S, RETRY_S * 2 ** min(failures - 2, 10)) if failures > 1 else 0.0


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
