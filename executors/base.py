"""What an executor is: it runs attempts (job/task.py) in other processes, one or many at a time.

Which executor runs is not decided here: main.py does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from typing import Protocol

from errors import ServiceError
from job.task import Progress, Result, Task

UnderWay = Generator[Progress | None, None, Result]
"""An attempt under way. Each `next` does what can be done without waiting and yields a progress, or
None: then nothing more can be done until the executor's `wait` returns. Its value is the result."""


class Executor(Protocol):
    """Runs attempts side by side. One thread starts it, drives all of them and waits for them.

    `capacity` is how many jobs are made at a time; it holds once `start` has returned. `wake` and
    `close` may be called from any thread; the properties too, they are answered from memory.
    """

    capacity: int

    @property
    def has_room(self) -> bool:
        """True if one more attempt may begin now."""

    @property
    def is_ready(self) -> bool:
        """True once a pipeline is loaded (it may since rest, if asked to)."""

    @property
    def is_resting(self) -> bool:
        """True if nothing is loaded because nothing was to do."""

    @property
    def loading(self) -> Mapping[str, int] | None:
        """`done_bytes` and `total_bytes` while weights are downloaded."""

    @property
    def broken(self) -> ServiceError | None:
        """Why no pipeline can be loaded."""

    def start(self) -> None:
        """Bring the first process up, so that the first job need not wait for it."""

    def run(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """An attempt; begins with its first `next`. Raises JobFailed, WorkerLost or Cancelled.

        Who sets `cancelled` calls `wake`. Closing the generator gives the attempt up.
        """

    def expect(self, task: Task) -> None:
        """This one is likely to be next: what needs no GPU may be done ahead. Promises nothing."""

    def wait(self, timeout_s: float) -> None:
        """Block until an attempt may go on, `wake` was called, or the time is over.

        What has nothing to do is looked after here: memory may be given back.
        """

    def wake(self) -> None:
        """Make `wait` return, now or the next time it is called."""

    def close(self) -> None:
        """End every process; attempts under way raise WorkerLost. Idempotent."""


LOOK_EVERY_S = 0.5
"""How often deadlines are looked at while nothing else happens."""


def run_to_end(
    executor: Executor,
    task: Task,
    on_progress: Callable[[Progress], None],
    cancelled: threading.Event,
) -> Result:
    """Block until the task ends: for those who have one at a time. Raises what `run` raises."""
    attempt = executor.run(task, cancelled)
    while True:
        try:
            progress = next(attempt)
        except StopIteration as end:
            result: Result = end.value
            return result
        if progress is None:
            executor.wait(LOOK_EVERY_S)
        else:
            on_progress(progress)
