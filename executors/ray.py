"""Jobs on a Ray cluster: one actor per GPU, each a LocalExecutor on its node (ray_actor.py).

The queue, the job files and the count of attempts stay with the server; Ray only sends a video
to a node and the finished files back, and reports a lost process or node. Never imported unless
RAY_ADDRESS is set; ray_connection.py imports Ray itself, in the worker's thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from errors import from_os_error
from executors.base import ExecutorOptions, PipelineStatus, ProcessLost, SlotStatus, overall
from executors.ray_actor import ActorAnswer, ActorStatus
from executors.ray_connection import RayConnection
from executors.ray_slot import ActorSlot
from job.logs import bound_to_job
from job.task import Event, Failed, Lost, Progress, Result, Stopped, Task

log = logging.getLogger(__name__)

ANSWER_S = 1.5
"""Extra time for the answer to a cancel to arrive; after that the actor is killed."""
SILENT_S = 60.0
"""An actor that runs a job but does not answer for so long is killed; Ray starts it again."""
RECONNECT_S = 5.0


class RayExecutor:
    """Runs as many tasks at once as the cluster has GPUs (CPUs for a pipeline that needs no GPU).

    `workers` limits that; 0 is all. `capacity` is known once `start` has returned.
    """

    def __init__(self, address: str, options: ExecutorOptions, workers: int = 0) -> None:
        self.capacity = max(1, workers)
        self._workers, self._options = workers, options
        self._connection = RayConnection(address, options)
        self.slots: list[ActorSlot] = []
        self._waiting: list[Task] = []  # for an actor
        self._cancel_wanted: dict[str, bool] = {}  # waiting and running jobs
        self._woken = threading.Event()
        self._closed = threading.Event()

    @property
    def has_room(self) -> bool:
        """True if an actor is free and answers."""
        return sum(slot.is_free for slot in self.slots) > len(self._waiting)

    @property
    def status(self) -> PipelineStatus:
        """See `overall`."""
        return overall(self.slot_statuses)

    @property
    def slot_statuses(self) -> tuple[SlotStatus, ...]:
        return tuple(slot.summary for slot in self.slots)

    # --- start and close

    def start(self) -> None:
        """Connect and make the actors; waits until the cluster is there."""
        while not self._closed.is_set() and not self._connection.connect():
            self._closed.wait(RECONNECT_S)
        try:
            actors = self._connection.make_actors(self._workers)
        except ProcessLost:
            return  # closed meanwhile
        self.capacity = len(actors)
        self.slots = [ActorSlot(number, actor) for number, actor in enumerate(actors)]

    def prefetch(self, task: Task) -> None:
        """Does nothing: it is not known which actor will run the task."""

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        """Disconnect; the actors end with the connection, and their attempts are lost."""
        self._closed.set()
        self.wake()
        self._connection.close()

    # --- tasks

    def submit(self, task: Task) -> None:
        """See executors.base.Executor. Without a running actor the task waits, uncounted."""
        self._cancel_wanted[task.job_id] = False
        self._waiting.append(task)
        self.wake()

    def cancel(self, job_id: str) -> None:
        if self._cancel_wanted.get(job_id) is False:
            self._cancel_wanted[job_id] = True
            self.wake()

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        """Wait for the actors; they unload their own idle children."""
        self._woken.wait(timeout_s)
        self._woken.clear()
        events = self._assign_waiting()
        for slot in self.slots:
            task = slot.task
            new = self._poll_slot(slot, task)
            if task is not None:  # an idle actor has no events
                events += [(task, event) for event in new]
        return [(task, self._lost_as_stopped(task, event)) for task, event in events]

    def _assign_waiting(self) -> list[tuple[Task, Event]]:
        ended: list[tuple[Task, Event]] = []
        for task in list(self._waiting):
            slot = next((slot for slot in self.slots if slot.is_free), None)
            if self._closed.is_set() or self._cancel_wanted[task.job_id]:
                ended.append((task, Lost("the server is stopping")))
            elif slot is None:
                continue
            else:
                slot.take(task)
                with bound_to_job(task.job_id):
                    log.info("attempt %d runs on actor %d", task.attempt, slot.number)
            self._waiting.remove(task)
        return ended

    def _lost_as_stopped(self, task: Task, event: Event) -> Event:
        """An attempt that is lost after a cancel counts as cancelled."""
        if isinstance(event, Progress):
            return event
        was_cancelled = self._cancel_wanted.pop(task.job_id)
        return Stopped() if was_cancelled and isinstance(event, Lost) else event

    def _poll_slot(self, slot: ActorSlot, task: Task | None) -> list[Event]:
        try:
            if self._closed.is_set():
                raise ProcessLost("the server is stopping")
            status = self._ask(slot)
            if task is None:
                return []
            if slot.call is None:
                task.workspace.mkdir(mode=0o700)
                slot.call = self._connection.call(slot.actor, "run", task, _inputs(task))
                slot.call.add_done_callback(lambda _: self.wake())
            if slot.call.done():
                answer = self._answer_of(slot, slot.call)
                slot.release(lost=isinstance(answer.outcome, Lost))
                return _received(task, answer)
            self._check_time(slot, task)
            if status is None or status.progress is None:
                return []
            return [_with_files(task, status.progress, status.files)]
        except (ProcessLost, OSError) as exc:
            slot.release(lost=True)  # the actor must answer before it gets the next task
            if isinstance(exc, ProcessLost):
                return [Lost(str(exc))]
            log.exception("the job's files could not be written")
            return [Failed(from_os_error(exc))]

    def _ask(self, slot: ActorSlot) -> ActorStatus | None:
        """Ask the actor for its status, when it is time; what it says of its task, once."""
        status = None
        if slot.question is not None and slot.question.done():
            failed = slot.question.exception() is not None
            status = slot.on_heartbeat(slot.asked_at, None if failed else slot.question.result())
        now = time.monotonic()
        if slot.is_due(now):
            if slot.orphaned_attempt is not None:  # counted as lost, but it still runs
                self._connection.call(slot.actor, "cancel", slot.orphaned_attempt)
            slot.asked_at = now
            slot.question = self._connection.call(slot.actor, "status")
            slot.question.add_done_callback(lambda _: self.wake())
        return status

    def _answer_of(self, slot: ActorSlot, call: Future[ActorAnswer]) -> ActorAnswer:
        """What RayActor.run returned. Raises ProcessLost if the call failed."""
        error = call.exception()
        if error is None:
            return call.result()
        name = type(error).__name__
        log.warning("actor %d is lost: %s: %s", slot.number, name, error)
        for other in self.slots:  # else the next attempt may be lost on the same node
            other.mark_suspect()
        raise ProcessLost(f"actor {slot.number} is lost: {name}")

    def _check_time(self, slot: ActorSlot, task: Task) -> None:
        """Send a cancel to the actor. Raises ProcessLost if the actor had to be killed."""
        now = time.monotonic()
        if self._cancel_wanted[task.job_id] and slot.cancel_deadline is None:
            slot.cancel_deadline = now + self._options.cancel_grace_s + ANSWER_S
            self._connection.call(slot.actor, "cancel", slot.key)
        if slot.cancel_deadline is not None and now > slot.cancel_deadline:
            self._kill(slot, "no answer to a cancel")
        if now - slot.alive_at > SILENT_S:
            self._kill(slot, f"no answer for {SILENT_S:.0f} s")

    def _kill(self, slot: ActorSlot, reason: str) -> NoReturn:
        log.error("actor %d is killed: %s", slot.number, reason)
        self._connection.kill(slot.actor)
        raise ProcessLost(f"actor {slot.number} was killed: {reason}")


def _inputs(task: Task) -> dict[str, bytes]:
    """The client's files: those in the job's folder, except the server's own record."""
    return {
        path.name: path.read_bytes()
        for path in task.folder.iterdir()
        if path.is_file() and not path.name.startswith(("job.json", "."))
    }


def _with_files(task: Task, progress: Progress, files: Mapping[str, bytes]) -> Progress:
    """The progress; its `ready` names only files that are on this machine.

    Those that are no early ones come with the result.
    """
    for name, content in files.items():
        part = task.workspace / f"{name}.part"
        part.write_bytes(content)
        os.replace(part, task.workspace / name)
    here = (name for name in progress.ready if (task.workspace / name).exists())
    return replace(progress, ready=tuple(here))


def _received(task: Task, answer: ActorAnswer) -> list[Event]:
    """The outcome, after the last progress; the files of a finished task are written here."""
    result, files = answer.outcome, answer.files
    if not isinstance(result, Result):
        return [result]
    for file in result.files:
        if Path(file.name).name != file.name or len(files[file.name]) != file.bytes:
            raise ProcessLost(f"an actor sent a file with a wrong name or size: {file.name!r}")
        with open(task.workspace / file.name, "wb") as output:
            output.write(files[file.name])
            output.flush()
            os.fsync(output.fileno())
    last = [] if answer.progress is None else [_with_files(task, answer.progress, {})]
    return [*last, result]
