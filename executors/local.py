"""Jobs on this machine: one resident child for all of a job, or a second one for its files.

With a GPU (`separate_files`) the maker's next job begins as soon as the meshes of the last are on
disk: the writer makes the files from the checkpoint. It loads no pipeline, and torch only where
PyTorch3D is there to draw the preview. What ends one child leaves the other and its job alone.
Without a GPU both halves want the same cores, and one child does them one after the other.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Generator
from dataclasses import replace

from errors import Cancelled, ServiceError
from executors.base import UnderWay
from executors.child_process import ChildOptions
from executors.supervisor import Deadline, Resident
from executors.wakeup import Bell
from job.task import Progress, Task, WorkerLost

log = logging.getLogger(__name__)

__all__ = ["ChildOptions", "LocalExecutor"]


class LocalExecutor:
    """Supervises its children from the one thread that drives its attempts."""

    capacity = 1

    def __init__(self, options: ChildOptions) -> None:
        self.options = options
        self._bell = Bell()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self.maker = Resident(options, self._selector)
        self.writer: Resident | None = None
        if options.separate_files:
            self.writer = Resident(replace(options, pipeline="", memory_mb=0), self._selector)
        self._waits_for_writer = False
        self._closed = False

    @property
    def has_room(self) -> bool:
        """True while the maker is free and no finished meshes wait for the writer."""
        return not self.maker.is_busy and not self._waits_for_writer

    @property
    def is_ready(self) -> bool:
        """True once a child has loaded the pipeline (it may since rest, if asked to)."""
        return self.maker.is_ready

    @property
    def is_resting(self) -> bool:
        """True if that child was ended because nothing was to do."""
        return self.maker.is_resting

    @property
    def loading(self) -> dict[str, int] | None:
        """How far the download of weights is."""
        return self.maker.loading

    @property
    def broken(self) -> ServiceError | None:
        """Why the pipeline cannot be loaded."""
        return self.maker.broken

    def start(self) -> None:
        """Start the children and let them load while nothing waits for them."""
        for resident in self._residents():
            try:
                resident.start()
            except WorkerLost as lost:  # the first attempt tries again
                log.warning("no child is started ahead: %s", lost)

    def run(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """See executors.base.Executor."""
        deadline = Deadline(self.options.job_timeout_s)
        if self.writer is None:
            result = yield from self.maker.converse("run", task, deadline, cancelled)
        else:
            if not task.checkpoint.is_dir():
                yield from self.maker.converse("make", task, deadline, cancelled)
            yield from self._wait_for_writer(self.writer, deadline, cancelled)
            try:
                result = yield from self.writer.converse("write", task, deadline, cancelled)
            finally:
                self.wake()  # another attempt may wait for the writer
        assert result is not None, "only what was to `make` ends without one"
        return result

    def expect(self, task: Task) -> None:
        """Let the maker read the frames while its GPU is busy; without one no core is to spare."""
        if self.writer is not None and not task.checkpoint.is_dir():
            self.maker.read_ahead(task)

    def wait(self, timeout_s: float) -> None:
        """Until a child says something; idle children are listened to."""
        self._selector.select(timeout_s)
        self._bell.silence()
        for resident in self._residents():
            resident.look_after()

    def wake(self) -> None:
        """From any thread."""
        self._bell.ring()

    def close(self) -> None:
        """From any thread; children of another thread are reaped there."""
        self._closed = True
        for resident in self._residents():
            resident.close()
        self.wake()

    def _residents(self) -> list[Resident]:
        return [self.maker] if self.writer is None else [self.maker, self.writer]

    def _wait_for_writer(
        self, writer: Resident, deadline: Deadline, cancelled: threading.Event
    ) -> Generator[Progress | None, None, None]:
        began = time.monotonic()
        self._waits_for_writer = True
        try:
            while writer.is_busy:
                if self._closed:
                    raise WorkerLost("the server is stopping")
                if cancelled.is_set():
                    raise Cancelled
                yield None
        finally:
            self._waits_for_writer = False
        deadline.postpone(time.monotonic() - began)
