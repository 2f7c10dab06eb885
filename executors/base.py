"""What an executor is: it runs attempts (job/task.py) in other processes, one or many at a time.

worker/loop.py uses it; main.py chooses one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from errors import ServiceError
from job.task import ChildConfig, Event, Outcome, Progress, Task

POLL_S = 0.5
"""The longest time to `poll`, so that deadlines are checked even if nothing else happens."""


class ProcessLost(Exception):
    """The process that should run a task has ended, or does not follow the protocol."""


@dataclass(frozen=True)
class ExecutorOptions:
    """How jobs are run.

    `job_timeout_s` limits one attempt; loading, which comes before it, has the same limit. With
    `separate_files` a second child writes the files, so that the GPU of the first need not wait for
    them. A child that does not answer a cancel within `cancel_grace_s` is killed.
    """

    child: ChildConfig
    job_timeout_s: float = 1800.0
    idle_unload_s: float = 0.0
    separate_files: bool = False
    cancel_grace_s: float = 10.0


@dataclass(frozen=True)
class PipelineStatus:
    """`is_ready`: a pipeline is loaded. `is_unloaded`: it was idle; the next job loads it again.

    `loading` holds `done_bytes` and `total_bytes` while weights are downloaded; `broken` is why no
    pipeline can be loaded.
    """

    is_ready: bool = False
    is_unloaded: bool = False
    loading: Mapping[str, int] | None = None
    broken: ServiceError | None = None


class Executor(Protocol):
    """Runs attempts side by side. One thread starts it, submits tasks and polls.

    `capacity` is how many jobs run at a time; it is known once `start` has returned. `cancel`,
    `wake`, `close` and the properties may be used from any thread; the properties never block.
    """

    capacity: int

    @property
    def has_room(self) -> bool:
        """True if one more task may be submitted now."""

    @property
    def status(self) -> PipelineStatus:
        """The state of all pipelines together."""

    def start(self) -> None:
        """Start the first process, so that the first job need not wait for it."""

    def submit(self, task: Task) -> None:
        """Begin this attempt. Every end of it, even a failed start, is an event of `poll`."""

    def cancel(self, job_id: str) -> None:
        """Ask the attempt at this job to stop; does nothing if none runs."""

    def prefetch(self, task: Task) -> None:
        """This task is probably next: work that needs no GPU may begin now. Only a hint."""

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        """New events; blocks until there is one, `wake` was called or the time is over.

        Idle processes are checked here too, and may be unloaded.
        """

    def wake(self) -> None:
        """Make `poll` return, now or the next time it is called."""

    def close(self) -> None:
        """End every process; running attempts are Lost. Idempotent."""


def run_to_end(
    executor: Executor,
    task: Task,
    on_progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Block until the task ends, for callers that run one task at a time.

    After `is_cancelled` becomes true, call `executor.wake`.
    """
    executor.submit(task)
    while True:
        if is_cancelled():
            executor.cancel(task.job_id)
        for event_task, event in executor.poll(POLL_S):
            if event_task != task:
                continue  # an earlier attempt that the caller no longer waits for
            if not isinstance(event, Progress):
                return event
            on_progress(event)
