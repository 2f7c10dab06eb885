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
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from errors import Cancelled, ServiceError
from executors.base import UnderWay
from executors.child_process import ChildOptions
from executors.ray_actor import RayActor
from executors.ray_slot import TICK_S, Seat
from executors.supervisor import CANCEL_GRACE_S
from job.task import JobFailed, Progress, Result, Task, WorkerLost

log = logging.getLogger(__name__)

ANSWER_S = 1.5
"""An actor may take so long to tell that a cancel was obeyed or enforced; then it is killed."""
SILENT_S = 60.0
"""An actor that runs a job and says nothing for so long is killed; Ray starts it anew."""
RECONNECT_S = 5.0
REACH_S = 5.0

_ROOT = str(Path(__file__).resolve().parent.parent)
# Settings of the server that every node must share; paths and tokens are each node's own.
_SHARED_SETTINGS = (
    "ACTIONMESH_COMPILE", "ACTIONMESH_REVISION", "TRIPOSG_REVISION", "DINOV2_REVISION",
    "RMBG_REVISION",
)  # fmt: skip


class RayExecutor:
    """Runs as many tasks at once as the cluster has GPUs (CPUs for a pipeline that needs no GPU).

    `workers` limits that; 0 is all. `capacity` is known once `start` has returned.
    """

    def __init__(self, address: str, options: ChildOptions, workers: int = 0) -> None:
        self.capacity = max(1, workers)
        self._address, self._workers = address, workers
        shared = {name: os.environ[name] for name in _SHARED_SETTINGS if os.environ.get(name)}
        extra = {**shared, **dict(options.extra_environment)}
        self._options = replace(options, extra_environment=tuple(extra.items()))
        self._seats: list[Seat] = []
        self._seats_lock = threading.Lock()
        self._woken = threading.Event()
        self._closed = threading.Event()
        self._ray_lock = threading.RLock()  # no call may meet a Ray that was shut down
        self._connected = False
        self._watcher = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    # --- what GET /ready asks

    @property
    def has_room(self) -> bool:
        """True if an actor is free that answers."""
        return any(seat.is_free for seat in self._seats)

    @property
    def is_ready(self) -> bool:
        """True if at least one actor's child has loaded its pipeline."""
        return any(seat.answers and seat.seen.get("is_ready") for seat in self._seats)

    @property
    def is_resting(self) -> bool:
        """True if every actor has ended its child because nothing was to do."""
        seats = self._seats
        return bool(seats) and all(seat.answers and seat.seen["is_resting"] for seat in seats)

    @property
    def loading(self) -> dict[str, int] | None:
        """The download of the first actor that is at one."""
        told = (seat.seen.get("loading") for seat in self._seats)
        return next((loading for loading in told if loading), None)

    @property
    def broken(self) -> ServiceError | None:
        """Why no actor can load the pipeline; None if any can."""
        told = [seat.seen.get("broken") for seat in self._seats]
        return ServiceError.from_dict(told[0]) if told and all(told) and told[0] else None

    # --- life

    def start(self) -> None:
        """Connect and make the actors; waits for as long as the cluster is not there."""
        while not self._closed.is_set() and not (self._listens() and self._connect()):
            self._closed.wait(RECONNECT_S)
        with self._ray_lock:
            if self._closed.is_set():
                return
            self._make_seats()
            self._watcher.start()

    def expect(self, task: Task) -> None:
        """Nothing: which actor will have it is not known."""

    def wait(self, timeout_s: float) -> None:
        """Until an actor says something; the actors look after their own idle children."""
        self._woken.wait(timeout_s)
        self._woken.clear()

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
        return "GPU" if self._options.pipeline == "actionmesh" else "CPU"

    def _count(self) -> int:
        """How many actors: never more than there are resources, or some would wait for ever."""
        import ray

        there = int(ray.cluster_resources().get(self._resource, 0))
        return min(self._workers, there) if self._workers else there

    def _make_seats(self) -> None:
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
        self._seats = [Seat(k, kind.remote(self._options)) for k in range(self.capacity)]
        log.info("Ray at %s: %d actors, one per %s", self._address, self.capacity, self._resource)

    # --- one run

    def run(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """See executors.base.Executor. Waits while no actor is up: that is no attempt's fault."""
        seat = yield from self._take_seat(task, cancelled)
        lost = True
        try:
            task.workspace.mkdir(mode=0o700)
            outcome = yield from self._outcome(seat, task, cancelled)
            lost = outcome["is"] == "lost"
            return (yield from _conclude(outcome, task))
        except WorkerLost as exc:
            if cancelled.is_set():
                raise Cancelled from exc
            raise
        finally:
            with self._seats_lock:
                seat.release(lost=lost)
            self.wake()

    def _take_seat(
        self, task: Task, cancelled: threading.Event
    ) -> Generator[Progress | None, None, Seat]:
        while True:
            if self._closed.is_set():
                raise WorkerLost("the server is stopping")
            if cancelled.is_set():
                raise Cancelled
            with self._seats_lock:
                for seat in self._seats:
                    if seat.is_free:
                        seat.take((task.job_id, task.attempt))
                        return seat
            yield None

    def _outcome(
        self, seat: Seat, task: Task, cancelled: threading.Event
    ) -> Generator[Progress | None, None, dict[str, Any]]:
        """What RayActor.run returned. Raises WorkerLost where it did not."""
        future = self._call(seat, "run", task.to_dict(), _inputs(task))
        future.add_done_callback(lambda _: self.wake())
        give_up: float | None = None
        while not future.done():
            yield None
            if self._closed.is_set():
                raise WorkerLost("the server is stopping")
            with self._seats_lock:
                news, anchor = seat.news()
            if news is not None:
                yield _shown(task, news, anchor)
            now = time.monotonic()
            if cancelled.is_set() and give_up is None:
                give_up = now + CANCEL_GRACE_S + ANSWER_S
                self._call(seat, "cancel", seat.key, group="control")
            if give_up is not None and now > give_up:
                self._kill(seat, "no answer to a cancel")
            if now - seat.heard_at > SILENT_S:
                self._kill(seat, f"nothing heard for {SILENT_S:.0f} s")
        error = future.exception()
        if error is not None:
            name = type(error).__name__
            log.warning("actor %d is lost: %s: %s", seat.number, name, error)
            with self._seats_lock:
                for other in self._seats:  # or the next attempt is lost on the same dead node
                    other.doubt()
            raise WorkerLost(f"actor {seat.number} is lost: {name}")
        outcome: dict[str, Any] = future.result()
        return outcome

    def _call(self, seat: Seat, method: str, *given: Any, group: str = "") -> Future[Any]:
        """Call the actor, and do not wait. Raises WorkerLost once we have left the cluster."""
        with self._ray_lock:
            if not self._connected:
                raise WorkerLost("the server is stopping")
            remote = getattr(seat.actor, method)
            if group:
                remote = remote.options(concurrency_group=group)
            future: Future[Any] = remote.remote(*given).future()
            return future

    def _kill(self, seat: Seat, reason: str) -> None:
        """The only way to stop what does not listen; Ray starts the actor anew. Raises."""
        log.error("actor %d is killed: %s", seat.number, reason)
        with self._ray_lock:
            if self._connected:
                import ray

                ray.kill(seat.actor, no_restart=False)
        raise WorkerLost(f"actor {seat.number} was killed: {reason}")

    # --- one thread that asks all actors, never one thread for each

    def _watch(self) -> None:
        try:
            while not self._closed.is_set():
                now = time.monotonic()
                for seat in self._seats:
                    if seat.stray is not None:  # an attempt that we gave up when its node was away
                        self._call(seat, "cancel", seat.stray, group="control")
                    if seat.is_due(now):
                        seat.asked_at = now
                        future = self._call(seat, "look", group="control")
                        future.add_done_callback(partial(self._hear, seat, now))
                self._closed.wait(TICK_S)
        except WorkerLost:
            pass  # the connection was closed meanwhile

    def _hear(self, seat: Seat, asked_at: float, future: Future[Any]) -> None:
        """In a thread of Ray's."""
        seen = None if future.exception() else future.result()
        with self._seats_lock:
            seat.hear(asked_at, seen)
        self.wake()


def _inputs(task: Task) -> dict[str, bytes]:
    """The client's files: what lies in the job's folder, except the server's own record."""
    return {
        path.name: path.read_bytes()
        for path in task.folder.iterdir()
        if path.is_file() and not path.name.startswith(("job.json", "."))
    }


def _shown(task: Task, record: Mapping[str, Any], anchor: bytes | None) -> Progress:
    """The progress as it may be passed on: the anchor mesh is promised only once it is here."""
    path = task.workspace / "anchor.glb"
    if anchor is not None:
        part = path.with_name("anchor.glb.part")
        part.write_bytes(anchor)
        os.replace(part, path)
    progress = Progress(**record)
    return replace(progress, has_anchor=progress.has_anchor and path.exists())


def _conclude(outcome: Mapping[str, Any], task: Task) -> UnderWay:
    """Turn the actor's record into what the worker knows; write the files of a finished task."""
    if outcome["is"] == "lost":
        raise WorkerLost(str(outcome["reason"]))
    if outcome["is"] == "cancelled":
        raise Cancelled
    if outcome["is"] == "failed":
        raise JobFailed(ServiceError.from_dict(outcome["error"]))
    result = Result.from_dict(outcome["result"])
    for file in result.files:
        if Path(file.name).name != file.name or len(outcome["files"][file.name]) != file.bytes:
            raise WorkerLost(f"an actor sent a file that is not what it should be: {file.name!r}")
        with open(task.workspace / file.name, "wb") as output:
            output.write(outcome["files"][file.name])
            output.flush()
            os.fsync(output.fileno())
    if told := outcome.get("progress"):
        yield _shown(task, told, None)
    return result
