"""Jobs on a Ray cluster: one actor per GPU, each a LocalExecutor on its node (ray_actor.py).

The queue, the job files and the count of attempts stay with the server; Ray only carries a video
to a node and the finished files back, and tells when a process or node is gone. Never imported
unless RAY_ADDRESS is set; Ray itself is imported when the executor starts, by the worker's thread.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from errors import ServiceError, from_os_error
from executors.base import ExecutorOptions, ProcessLost
from executors.ray_actor import ActorAnswer, ActorStatus, RayActor
from executors.ray_slot import TICK_S, ActorSlot
from job.task import Event, Failed, Lost, Progress, Result, Stopped, Task

log = logging.getLogger(__name__)

ANSWER_S = 1.5
"""An actor may take so long to tell that a cancel was obeyed or enforced; then it is killed."""
SILENT_S = 60.0
"""An actor that runs a job and says nothing for so long is killed; Ray starts it anew."""
RECONNECT_S = 5.0
REACH_S = 5.0

_ROOT = str(Path(__file__).resolve().parent.parent)


class RayExecutor:
    """Runs as many tasks at once as the cluster has GPUs (CPUs for a pipeline that needs no GPU).

    `workers` limits that; 0 is all. `capacity` is known once `start` has returned.
    """

    def __init__(self, address: str, options: ExecutorOptions, workers: int = 0) -> None:
        self.capacity = max(1, workers)
        self._address, self._workers, self._options = address, workers, options
        self.slots: list[ActorSlot] = []
        self._slots_lock = threading.Lock()
        self._waiting: list[Task] = []  # for an actor
        self._cancelled: set[str] = set()  # of what waits or runs
        self._woken = threading.Event()
        self._closed = threading.Event()
        self._ray_lock = threading.RLock()  # no call may meet a Ray that was shut down
        self._connected = False
        self._watcher = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    # --- what GET /ready asks

    @property
    def has_room(self) -> bool:
        """True if an actor is free that answers."""
        return sum(slot.is_free for slot in self.slots) > len(self._waiting)

    @property
    def is_ready(self) -> bool:
        """True if at least one actor's child has loaded its pipeline."""
        return any(slot.answers and slot.status.is_ready for slot in self.slots)

    @property
    def is_unloaded(self) -> bool:
        """True if every actor has ended its child because nothing was to do."""
        slots = self.slots
        return bool(slots) and all(slot.answers and slot.status.is_unloaded for slot in slots)

    @property
    def loading(self) -> dict[str, int] | None:
        """The download of the first actor that is at one."""
        told = (slot.status.loading for slot in self.slots)
        return next((loading for loading in told if loading), None)

    @property
    def broken(self) -> ServiceError | None:
        """Why no actor can load the pipeline; None if any can."""
        told = [slot.status.broken for slot in self.slots]
        return told[0] if told and all(told) else None

    # --- life

    def start(self) -> None:
        """Connect and make the actors; waits for as long as the cluster is not there."""
        while not self._closed.is_set() and not (self._listens() and self._connect()):
            self._closed.wait(RECONNECT_S)
        with self._ray_lock:
            if self._closed.is_set():
                return
            self._make_slots()
            self._watcher.start()

    def prefetch(self, task: Task) -> None:
        """Nothing: which actor will have it is not known."""

    def wake(self) -> None:
        """From any thread."""
        self._woken.set()

    def close(self) -> None:
        """Leave the cluster; the actors end with the connection, and runs under way are lost."""
        self._closed.set()
        self.wake()
        with self._ray_lock:
            if self._connected:
                import ray

                self._connected = False
                ray.shutdown()

    def _listens(self) -> bool:
        """Ask first: `ray.init` may hang for minutes where nobody listens."""
        host, _, port = self._address.rpartition("://")[2].rpartition(":")
        try:
            socket.create_connection((host, int(port)), REACH_S).close()
            return True
        except (OSError, ValueError) as exc:
            log.error("nothing answers at RAY_ADDRESS %s: %s", self._address, exc)
            return False

    def _connect(self) -> bool:
        import ray

        with self._ray_lock:
            if self._closed.is_set():
                return False
            try:
                ray.init(
                    address=self._address,
                    namespace="actionmesh",
                    log_to_driver=False,  # an actor's lines stay on its node: `ray logs`
                    configure_logging=False,
                    runtime_env={"env_vars": {"PYTHONPATH": _ROOT}},
                )
            except (OSError, RuntimeError, ValueError) as exc:
                log.error("the Ray cluster at %s cannot be joined: %s", self._address, exc)
                return False
            self._connected = True
            if self._count() > 0:
                return True
            log.error("the Ray cluster at %s has no %s yet", self._address, self._resource)
            ray.shutdown()
            self._connected = False
            return False

    @property
    def _resource(self) -> str:
        return "GPU" if self._options.child.pipeline == "actionmesh" else "CPU"

    def _count(self) -> int:
        """How many actors: never more than there are resources, or some would wait for ever."""
        import ray

        there = int(ray.cluster_resources().get(self._resource, 0))
        return min(self._workers, there) if self._workers else there

    def _make_slots(self) -> None:
        import ray

        is_gpu = self._resource == "GPU"
        kind = ray.remote(
            num_gpus=1 if is_gpu else 0,
            num_cpus=0 if is_gpu else 1,
            max_restarts=-1,
            max_task_retries=0,  # the server counts attempts; Ray must not
            concurrency_groups={"control": 2},
        )(RayActor)
        self.capacity = self._count()
        self.slots = [ActorSlot(k, kind.remote(self._options)) for k in range(self.capacity)]
        log.info("Ray at %s: %d actors, one per %s", self._address, self.capacity, self._resource)

    # --- tasks

    def submit(self, task: Task) -> None:
        """See executors.base.Executor. Waits while no actor is up: that is no attempt's fault."""
        self._cancelled.discard(task.job_id)  # of an earlier attempt
        self._waiting.append(task)
        self.wake()

    def cancel(self, job_id: str) -> None:
        """From any thread."""
        running = (slot.task for slot in self.slots)
        if any(task and task.job_id == job_id for task in (*self._waiting, *running)):
            self._cancelled.add(job_id)
            self.wake()

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        """Wait for the actors; they look after their own idle children."""
        self._woken.wait(timeout_s)
        self._woken.clear()
        events = self._assign_waiting()
        for slot in self.slots:
            if (task := slot.task) is not None:
                events += [(task, event) for event in self._poll_slot(slot, task)]
        return [(task, self._settled(task, event)) for task, event in events]

    def _assign_waiting(self) -> list[tuple[Task, Event]]:
        """Give what waits to the actors that are free."""
        ended: list[tuple[Task, Event]] = []
        for task in list(self._waiting):
            slot = next((slot for slot in self.slots if slot.is_free), None)
            if self._closed.is_set() or task.job_id in self._cancelled:
                ended.append((task, Lost("the server is stopping")))
            elif slot is None:
                continue
            else:
                with self._slots_lock:
                    slot.take(task)
            self._waiting.remove(task)
        return ended

    def _settled(self, task: Task, event: Event) -> Event:
        """What is lost after it was to be cancelled counts as cancelled."""
        if isinstance(event, Progress):
            return event
        was_cancelled = task.job_id in self._cancelled
        self._cancelled.discard(task.job_id)
        return Stopped() if was_cancelled and isinstance(event, Lost) else event

    def _poll_slot(self, slot: ActorSlot, task: Task) -> list[Event]:
        try:
            if self._closed.is_set():
                raise ProcessLost("the server is stopping")
            if slot.call is None:
                task.workspace.mkdir(mode=0o700)
                slot.call = self._call(slot, "run", task, _inputs(task))
                slot.call.add_done_callback(lambda _: self.wake())
            if slot.call.done():
                answer = self._answer(slot, slot.call)
                with self._slots_lock:
                    slot.release(lost=isinstance(answer.outcome, Lost))
                return _received(task, answer)
            self._check_time(slot, task)
            with self._slots_lock:
                progress, anchor = slot.take_progress()
            return [] if progress is None else [_shown(task, progress, anchor)]
        except (ProcessLost, OSError) as exc:
            return [self._give_up(slot, exc)]

    def _give_up(self, slot: ActorSlot, reason: ProcessLost | OSError) -> Event:
        """End the attempt here; the actor must answer before it gets the next one."""
        with self._slots_lock:
            slot.release(lost=True)
        if isinstance(reason, ProcessLost):
            return Lost(str(reason))
        log.error("the disk did not take the job's files", exc_info=reason)
        return Failed(from_os_error(reason))

    def _answer(self, slot: ActorSlot, call: Future[ActorAnswer]) -> ActorAnswer:
        """What RayActor.run returned. Raises ProcessLost where it did not."""
        error = call.exception()
        if error is None:
            return call.result()
        name = type(error).__name__
        log.warning("actor %d is lost: %s: %s", slot.number, name, error)
        with self._slots_lock:
            for other in self.slots:  # or the next attempt is lost on the same dead node
                other.mark_suspect()
        raise ProcessLost(f"actor {slot.number} is lost: {name}")

    def _check_time(self, slot: ActorSlot, task: Task) -> None:
        """Pass a cancel on. Raises ProcessLost if the actor was to be killed."""
        now = time.monotonic()
        if task.job_id in self._cancelled and slot.cancel_deadline is None:
            slot.cancel_deadline = now + self._options.cancel_grace_s + ANSWER_S
            self._call(slot, "cancel", slot.key, group="control")
        if slot.cancel_deadline is not None and now > slot.cancel_deadline:
            self._kill(slot, "no answer to a cancel")
        if now - slot.heard_at > SILENT_S:
            self._kill(slot, f"nothing heard for {SILENT_S:.0f} s")

    def _call(self, slot: ActorSlot, method: str, *given: Any, group: str = "") -> Future[Any]:
        """Call the actor, and do not wait. Raises ProcessLost once we have left the cluster."""
        with self._ray_lock:
            if not self._connected:
                raise ProcessLost("the server is stopping")
            remote = getattr(slot.actor, method)
            if group:
                remote = remote.options(concurrency_group=group)
            future: Future[Any] = remote.remote(*given).future()
            return future

    def _kill(self, slot: ActorSlot, reason: str) -> None:
        """The only way to stop what does not listen; Ray starts the actor anew. Raises."""
        log.error("actor %d is killed: %s", slot.number, reason)
        with self._ray_lock:
            if self._connected:
                import ray

                ray.kill(slot.actor, no_restart=False)
        raise ProcessLost(f"actor {slot.number} was killed: {reason}")

    # --- one thread that asks all actors, never one thread for each

    def _watch(self) -> None:
        try:
            while not self._closed.is_set():
                now = time.monotonic()
                for slot in self.slots:
                    # an attempt that we gave up when its node was away
                    if slot.orphaned_attempt is not None:
                        self._call(slot, "cancel", slot.orphaned_attempt, group="control")
                    if slot.is_due(now):
                        slot.asked_at = now
                        future = self._call(slot, "status", group="control")
                        future.add_done_callback(partial(self._on_heartbeat, slot, now))
                self._closed.wait(TICK_S)
        except ProcessLost:
            pass  # the connection was closed meanwhile

    def _on_heartbeat(self, slot: ActorSlot, asked_at: float, future: Future[ActorStatus]) -> None:
        """In a thread of Ray's."""
        status = None if future.exception() else future.result()
        with self._slots_lock:
            slot.on_heartbeat(asked_at, status)
        self.wake()


def _inputs(task: Task) -> dict[str, bytes]:
    """The client's files: what lies in the job's folder, except the server's own record."""
    return {
        path.name: path.read_bytes()
        for path in task.folder.iterdir()
        if path.is_file() and not path.name.startswith(("job.json", "."))
    }


def _shown(task: Task, progress: Progress, anchor: bytes | None) -> Progress:
    """The progress as it may be passed on: the anchor mesh is promised only once it is here."""
    path = task.workspace / "anchor.glb"
    if anchor is not None:
        part = path.with_name("anchor.glb.part")
        part.write_bytes(anchor)
        os.replace(part, path)
    return replace(progress, has_anchor=progress.has_anchor and path.exists())


def _received(task: Task, answer: ActorAnswer) -> list[Event]:
    """The outcome, after the last progress; the files of a finished task are written here."""
    result, files = answer.outcome, answer.files
    if not isinstance(result, Result):
        return [result]
    for file in result.files:
        if Path(file.name).name != file.name or len(files[file.name]) != file.bytes:
            raise ProcessLost(f"an actor sent a file that is not what it should be: {file.name!r}")
        with open(task.workspace / file.name, "wb") as output:
            output.write(files[file.name])
            output.flush()
            os.fsync(output.fileno())
    last = [] if answer.progress is None else [_shown(task, answer.progress, None)]
    return [*last, result]
