"""What an executor is: it runs attempts (job/task.py) in other processes, one or many at a time.

worker/loop.py uses it; main.py chooses one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from errors import ServiceError
from job.task import ChildConfig, Event, Outcome, Progress, Task
from pipeline import Gpu, smallest

POLL_S = 0.5
"""The longest time to `poll`, so that deadlines are checked even if nothing else happens."""


class ProcessLost(Exception):
    """The process that should run a task has ended, or does not follow the protocol."""


@dataclass(frozen=True)
class ExecutorOptions:
    """How jobs are run.

    `job_timeout_s` limits one attempt, and loading, which comes before it; an attempt at more than
    31 frames may take longer in proportion. With `separate_files` other children write the files,
    so that no GPU need wait for them. A child that does not answer a cancel within `cancel_grace_s`
    is killed. On one machine there is one child for each of `gpus`; None is a child that uses what
    its environment offers.
    """

    child: ChildConfig
    job_timeout_s: float = 1800.0
    idle_unload_s: float = 0.0
    separate_files: bool = False
    cancel_grace_s: float = 10.0
    gpus: tuple[Gpu | None, ...] = (None,)

    def time_limit_s(self, task: Task) -> float:
        """Seconds that one attempt at this task may take."""
        return self.job_timeout_s * task.options.time_share


@dataclass(frozen=True)
class PipelineStatus:
    """`is_ready`: a pipeline is loaded. `is_unloaded`: it was idle; the next job loads it again.

    `loading` holds `done_bytes` and `total_bytes` while weights are downloaded; `broken` is why no
    pipeline can be loaded. `gpu` is what the process with the pipeline reported; before that, what
    is known without it.
    """

    is_ready: bool = False
    is_unloaded: bool = False
    loading: Mapping[str, int] | None = None
    broken: ServiceError | None = None
    gpu: Gpu | None = None


SlotState = Literal["busy", "ready", "loading", "unloaded", "lost", "broken"]


@dataclass(frozen=True)
class SlotStatus:
    """One slot of an executor: a child or an actor, which runs one job at a time.

    `is_lost`: its process ended, or does not answer, and gets no job until it does.
    """

    number: int
    pipeline: PipelineStatus
    is_busy: bool = False
    is_lost: bool = False

    @property
    def state(self) -> SlotState:
        if self.is_busy:
            return "busy"
        if self.pipeline.broken:
            return "broken"
        if self.is_lost:
            return "lost"
        if self.pipeline.is_ready:
            return "ready"
        return "unloaded" if self.pipeline.is_unloaded else "loading"


def overall(slots: Sequence[SlotStatus]) -> PipelineStatus:
    """The state of all slots together: ready if one is, broken if all are.

    Unloaded if all that are not broken are.
    """
    found = [slot.pipeline for slot in slots]
    is_ready = any(status.is_ready for status in found)
    loading = [status.loading for status in found if status.loading]
    return PipelineStatus(
        is_ready=is_ready,
        is_unloaded=any(status.is_unloaded for status in found)
        and all(status.is_unloaded or status.broken for status in found),
        loading=loading[0] if loading and not is_ready else None,
        broken=found[0].broken if found and all(status.broken for status in found) else None,
        gpu=smallest(status.gpu for status in found if status.gpu),
    )


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

    @property
    def slot_statuses(self) -> Sequence[SlotStatus]:
        """The state of each slot, by number."""

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
