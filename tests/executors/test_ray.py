"""RayExecutor on a real cluster of two nodes: the tests of every executor, and its own.

The nodes are raylets on this machine; their CPU counts are only configured numbers.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client import Client
from examples.ray_cluster import LocalCluster, local_cluster
from executors.base import Executor, ExecutorOptions, run_to_end
from executors.ray import RayExecutor
from job.folder import JobsFolder
from job.task import Lost, Outcome, Progress, Result, Task
from job_store import JobStore
from tests.executors.conformance import ExecutorConformance, options
from tests.job_factory import accept
from tests.servers import process_server
from tests.waiting import wait_until
from worker.loop import Worker

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="ray is not installed: pip install -r requirements/ray.txt",
    ),
    # Ray warns about its own processes and sockets
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(2, 2) as made:
        yield made


def started(cluster: LocalCluster, options: ExecutorOptions, workers: int = 1) -> RayExecutor:
    executor = RayExecutor(cluster.address, options, workers)
    executor.start()
    return executor


class TestRayExecutor(ExecutorConformance):
    @pytest.fixture(autouse=True)
    def _on(self, cluster: LocalCluster) -> None:
        self.cluster = cluster

    def executor(self, options: ExecutorOptions) -> Executor:
        return started(self.cluster, options)


class Attempt:
    """A task in its own thread: whether it moves, and how it ended."""

    def __init__(self, executor: Executor, task: Task) -> None:
        self.moves = threading.Event()
        self.ended: Outcome | None = None
        self._executor, self._task = executor, task
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def outcome(self) -> Outcome | None:
        self._thread.join(90)
        return self.ended

    def _run(self) -> None:
        def note(progress: Progress) -> None:
            if progress.stage == "motion":
                self.moves.set()

        self.ended = run_to_end(self._executor, self._task, note)


def again(task: Task) -> Task:
    return replace(task, attempt=task.attempt + 1)


def _busy_pid(executor: RayExecutor) -> int:
    return next(slot.status.pid for slot in executor.slots if slot.task is not None)


@pytest.mark.parametrize("loss", ["actor", "node"])
def test_a_killed_actor_or_node_loses_the_attempt_and_the_next_one_finishes(
    cluster: LocalCluster, task: Task, loss: str, record_property: Callable[[str, object], None]
) -> None:
    executor = started(cluster, options("Sleeps"), workers=4 if loss == "node" else 1)
    try:
        attempt = Attempt(executor, task)
        assert attempt.moves.wait(60)
        pid = _busy_pid(executor)
        killed = time.monotonic()
        if loss == "actor":
            os.kill(pid, signal.SIGKILL)
        else:
            cluster.kill_node_of(pid)
        assert isinstance(attempt.outcome(), Lost)
        record_property("noticed_s", round(time.monotonic() - killed, 1))
        result = run_to_end(executor, again(task))
        assert isinstance(result, Result)
        took = time.monotonic() - killed
        record_property("recovered_s", round(took - sum(result.timings.values()), 1))
        assert not Path(f"/proc/{pid}").exists()
    finally:
        executor.close()
        if loss == "node":
            cluster.add_node(2)


def test_there_are_never_more_actors_than_resources(cluster: LocalCluster) -> None:
    executor = started(cluster, options("Bends"), workers=9)
    try:
        assert executor.capacity == 4

        def are_free() -> bool:
            executor.poll(0.05)
            return all(slot.is_free for slot in executor.slots)

        wait_until(are_free, timeout_s=100)
        assert len(cluster.actor_pids()) == 4
    finally:
        executor.close()
    wait_until(lambda: not cluster.actor_pids())


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
    wait_until(lambda: not first & set(cluster.actor_pids()))
    with process_server(tmp_path, **environment) as server:
        client = Client(server.url)
        assert [client.wait(job)["status"] for job in jobs] == ["finished"] * 2
        server.process.terminate()
        assert server.process.wait(20) == 0
    wait_until(lambda: not cluster.actor_pids())


def test_four_actors_do_four_jobs_at_once(
    cluster: LocalCluster, tmp_path: Path, clip_16: Path
) -> None:
    store = JobStore(JobsFolder(tmp_path / "jobs"))
    store.open()
    executor = RayExecutor(cluster.address, options("SleepsLong"), 4)
    worker = Worker(store, store.folder, executor)
    worker.start()
    ids = [accept(store, clip_16.read_bytes()).job_id for _ in range(4)]
    for job_id in ids:
        worker.queue.submit(job_id, reserved=False)
    wait_until(
        lambda: all(_stage(store, job_id) == "motion" for job_id in ids),
        timeout_s=100,
    )
    worker.stop(1.0)
    store.close()


def _stage(store: JobStore, job_id: str) -> str:
    progress = store.get(job_id).progress
    return progress.stage if progress else ""
