"""What an executor is: it runs attempts (job/task.py) in other processes, one or many at a time.

worker/loop.py drives one. Which executor runs is not decided here: main.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from errors import ServiceError
from job.task import ChildConfig, Event, Outcome, Progress, Task

LOOK_EVERY_S = 0.5
"""How long to `poll` at most, so that deadlines are kept while nothing else happens."""


class ProcessLost(Exception):
    """The process that was to run a task is gone, or does not do what it should."""


@dataclass(frozen=True)
class ExecutorOptions:
    """How jobs are run.

    `job_timeout_s` bounds one attempt; loading comes before it, and may be silent for as long. With
    `separate_files` a second child writes the files, so that the GPU of the first need not wait for
    them. A child that does not answer a cancel within `cancel_grace_s` is killed.
    """

    child: ChildConfig
    job_timeout_s: float = 1800.0
    idle_unload_s: float = 0.0
    separate_files: bool = False
    cancel_grace_s: float = 10.0


class Executor(Protocol):
    """Runs attempts side by side. One thread starts it, submits tasks and polls.

    `capacity` is how many jobs are made at a time; it holds once `start` has returned. `cancel`,
    `wake` and `close` may be called from any thread; the properties too, they are answered from
    memory.
    """

    capacity: int

    @property
    def has_room(self) -> bool:
        """True if one more task may be submitted now."""

    @property
    def is_ready(self) -> bool:
        """True once a pipeline is loaded (it may since be unloaded, if asked to)."""

    @property
    def is_unloaded(self) -> bool:
        """True if nothing is loaded because nothing was to do."""

    @property
    def loading(self) -> Mapping[str, int] | None:
        """`done_bytes` and `total_bytes` while weights are downloaded."""

    @property
    def broken(self) -> ServiceError | None:
        """Why no pipeline can be loaded."""

    def start(self) -> None:
        """Bring the first process up, so that the first job need not wait for it."""

    def submit(self, task: Task) -> None:
        """Begin this attempt. Every end of it, even a failed start, is an event of `poll`."""

    def cancel(self, job_id: str) -> None:
        """Ask the attempt at this job to stop; nothing happens if none is under way."""

    def prefetch(self, task: Task) -> None:
        """This one is likely to be next: what needs no GPU may be done ahead. Promises nothing."""

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        """What happened since; blocks until something did, `wake` was called or the time is over.

        What has nothing to do is looked after here: memory may be given back.
        """

    def wake(self) -> None:
        """Make `poll` return, now or the next time it is called."""

    def close(self) -> None:
        """End every process; attempts under way are Lost. Idempotent."""


def run_to_end(
    executor: Executor,
    task: Task,
    on_progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Block until the task ends: for those who have one at a time.

    Who makes `is_cancelled` true from another thread wakes the executor.
    """
    executor.submit(task)
    while True:
        if is_cancelled():
            executor.cancel(task.job_id)
        for of, event in executor.poll(LOOK_EVERY_S):
            if of != task:
                continue  # one that the caller gave up
            if not isinstance(event, Progress):
                return event
            on_progress(event)
