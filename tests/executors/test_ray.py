"""RayExecutor keeps every executor's promises on a real cluster of two nodes, and its own.

The nodes are raylets on this machine; their CPUs are numbers told to Ray, not cores.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.pace import slowness
from client import Client
from examples.ray_cluster import LocalCluster, local_cluster
from executors.base import Executor, run_to_end
from executors.child_process import ChildOptions
from executors.local import LocalExecutor
from executors.ray import RayExecutor
from executors.ray_slot import Seat
from job.state import JobStatus
from job.task import Progress, Result, Task, WorkerLost
from job_store import JobStore
from tests.executors.conformance import ExecutorConformance
from tests.job_factory import OPTIONS, accept
from tests.servers import process_server
from tests.waiting import wait_until
from worker.loop import Worker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="ray is not installed: pip install -r requirements-ray.txt",
    ),
    # Ray's own, about its own processes and sockets
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(2, 2) as made:
        yield made


def started(
    cluster: LocalCluster, pipeline: str, workers: int = 1, job_timeout_s: float = 60.0
) -> RayExecutor:
    options = ChildOptions(f"tests.pipelines:{pipeline}", job_timeout_s=job_timeout_s)
    executor = RayExecutor(cluster.address, options, workers)
    executor.start()
    return executor


class TestRayExecutor(ExecutorConformance):
    @pytest.fixture(autouse=True)
    def _on(self, cluster: LocalCluster) -> None:
        self.cluster = cluster

    def executor(self, pipeline: str, *, job_timeout_s: float = 60.0) -> Executor:
        return started(self.cluster, pipeline, job_timeout_s=job_timeout_s)


class Attempt:
    """A task on a thread of its own: its latest progress, and how it ended."""

    def __init__(self, executor: Executor, task: Task) -> None:
        self.moves = threading.Event()
        self.ended: Result | BaseException | None = None
        self._executor, self._task = executor, task
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def result(self) -> Result | BaseException | None:
        self._thread.join(90)
        return self.ended

    def _run(self) -> None:
        def note(progress: Progress) -> None:
            if progress.stage == "motion":
                self.moves.set()

        try:
            self.ended = run_to_end(self._executor, self._task, note, threading.Event())
        except WorkerLost as exc:
            self.ended = exc


@pytest.fixture
def task(tmp_path: Path, clip_16: Path) -> Task:
    folder = tmp_path / "6b2f8c1e-7f1c-4f4e-9d43-1d2c3b4a5f60"
    folder.mkdir()
    (folder / "input").write_bytes(clip_16.read_bytes())
    return Task(folder.name, 1, folder, "mov", OPTIONS)


def again(task: Task) -> Task:
    return Task.from_dict({**task.to_dict(), "attempt": task.attempt + 1})


def _ready(executor: RayExecutor) -> list[Seat]:
    return [seat for seat in executor._seats if seat.is_free and seat.seen.get("is_ready")]


def _busy_pid(executor: RayExecutor) -> int:
    return next(int(seat.seen["pid"]) for seat in executor._seats if seat.key is not None)


@pytest.mark.parametrize("loss", ["actor", "node"])
def test_what_is_killed_loses_the_attempt_and_the_next_one_finishes(
    cluster: LocalCluster, task: Task, loss: str, record_property: Callable[[str, object], None]
) -> None:
    executor = started(cluster, "Sleeps", workers=4 if loss == "node" else 1)
    try:
        attempt = Attempt(executor, task)
        assert attempt.moves.wait(60)
        pid = _busy_pid(executor)
        killed = time.monotonic()
        if loss == "actor":
            os.kill(pid, signal.SIGKILL)
        else:
            cluster.kill_node_of(pid)
        assert isinstance(attempt.result(), WorkerLost)
        record_property("noticed_s", round(time.monotonic() - killed, 1))
        result = run_to_end(executor, again(task), lambda _: None, threading.Event())
        took = time.monotonic() - killed
        record_property("recovered_s", round(took - sum(result.timings.values()), 1))
        assert result.files
        assert not Path(f"/proc/{pid}").exists()
    finally:
        executor.close()
        if loss == "node":
            cluster.add_node(2)


def test_there_are_never_more_actors_than_resources(cluster: LocalCluster) -> None:
    executor = started(cluster, "Bends", workers=9)
    try:
        assert executor.capacity == 4
        wait_until(lambda: all(seat.is_free for seat in executor._seats), timeout_s=100)
        assert len(cluster.actor_pids()) == 4
    finally:
        executor.close()
    wait_until(lambda: not cluster.actor_pids(), timeout_s=20)


def test_a_killed_server_leaves_no_actor_and_the_next_one_finishes_its_jobs(
    cluster: LocalCluster, tmp_path: Path, clip_16: Path
) -> None:
    environment = {
        "RAY_ADDRESS": cluster.address,
        "GPU_WORKERS": "2",
        "PIPELINE": "tests.pipelines:Sleeps",
    }
    with process_server(tmp_path, **environment) as server:
        client = Client(server.url)
        jobs = [client.submit(clip_16) for _ in range(2)]
        wait_until(
            lambda: all(client.status(job)["status"] == "running" for job in jobs), timeout_s=60
        )
        wait_until(lambda: len(cluster.actor_pids()) == 2, timeout_s=60)
        first = set(cluster.actor_pids())
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
    wait_until(lambda: not first & set(cluster.actor_pids()), timeout_s=30)
    with process_server(tmp_path, **environment) as server:
        client = Client(server.url)
        assert [client.wait(job)["status"] for job in jobs] == ["finished"] * 2
        server.process.terminate()
        assert server.process.wait(20) == 0
    wait_until(lambda: not cluster.actor_pids(), timeout_s=30)


@pytest.mark.timeout(300)
def test_the_way_over_the_cluster_costs_little(
    cluster: LocalCluster, task: Task, record_property: Callable[[str, object], None]
) -> None:
    """What `run` takes beside the job's own stages; the best of three is the least disturbed."""

    def beside(executor: Executor) -> float:
        run_to_end(executor, task, lambda _: None, threading.Event())  # loads
        took, last = [], task
        for _ in range(3):
            last = again(last)
            # or it would count the stages of the attempt before as its own
            shutil.rmtree(task.folder / "checkpoint", ignore_errors=True)
            began = time.monotonic()
            result = run_to_end(executor, last, lambda _: None, threading.Event())
            took.append(time.monotonic() - began - sum(result.timings.values()))
        executor.close()
        return min(took)

    over_ray = beside(started(cluster, "Bends"))
    for workspace in task.folder.glob("attempt-*"):
        workspace.rename(workspace.with_name(f"ray-{workspace.name}"))
    here = beside(LocalExecutor(ChildOptions("tests.pipelines:Bends")))
    record_property("over_ray_ms", round(over_ray * 1000))
    record_property("here_ms", round(here * 1000))
    assert over_ray - here <= 0.2 * slowness(time.monotonic)


def test_four_actors_do_almost_four_times_the_work_of_one(
    cluster: LocalCluster,
    tmp_path: Path,
    clip_16: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """The jobs sleep and then find nothing: two cores are too few for four that compute."""
    rates = {}
    for workers, jobs in ((1, 5), (4, 20)):
        store = JobStore(tmp_path / str(workers))
        store.open()
        options = ChildOptions("tests.pipelines:SleepsAndFindsNothing")
        executor = RayExecutor(cluster.address, options, workers)
        worker = Worker(store, executor)
        worker.start()
        wait_until(lambda: len(_ready(executor)) == workers, timeout_s=100)  # noqa: B023
        ids = [accept(store, clip_16.read_bytes()).job_id for _ in range(jobs)]
        began = time.monotonic()
        for job_id in ids:
            worker.queue.submit(job_id, reserved=False)
        wait_until(
            lambda: all(store.get(job_id).status is JobStatus.ERROR for job_id in ids),  # noqa: B023
            timeout_s=100,
        )
        rates[workers] = jobs / (time.monotonic() - began)
        worker.stop(1.0)
        store.close()
    record_property("times", round(rates[4] / rates[1], 2))
    assert rates[4] >= 3.2 * rates[1]
