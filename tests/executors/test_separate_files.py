"""Two children, one for meshes and one for files: neither waits for the other or falls with it.

The files of a job are held up by a program that is called as Blender is; it goes on when told to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from errors import Cancelled
from executors.base import Executor, run_to_end
from executors.local import ChildOptions, LocalExecutor
from job.task import JobFailed, Progress, Task, WorkerLost
from tests.api.bodies import ended, frames_zip, send, submit
from tests.executors.blocking_blender import BlockingBlender
from tests.executors.conformance import ExecutorConformance
from tests.executors.test_local import load
from tests.job_factory import OPTIONS, with_options
from tests.servers import ROOT, thread_server
from tests.video.clips import numbered
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def separate(
    pipeline: str, job_timeout_s: float = 60.0, idle_unload_s: float = 0.0, blender: str = ""
) -> LocalExecutor:
    return LocalExecutor(
        ChildOptions(
            f"tests.pipelines:{pipeline}",
            job_timeout_s=job_timeout_s,
            idle_unload_s=idle_unload_s,
            separate_files=True,
            extra_environment=(("BLENDER_PATH", blender),),
        )
    )


class TestTwoChildren(ExecutorConformance):
    def executor(self, pipeline: str, *, job_timeout_s: float = 60.0) -> Executor:
        return separate(pipeline, job_timeout_s)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    folder = tmp_path / "6b2f8c1e-7f1c-4f4e-9d43-1d2c3b4a5f60"
    folder.mkdir()
    (folder / "input").write_bytes(frames_zip())
    return with_options(Task(folder.name, 1, folder, "zip", OPTIONS), blender_export=True)


@pytest.fixture
def blocking_blender(tmp_path: Path) -> BlockingBlender:
    return BlockingBlender(tmp_path)


# --- one attempt at a time


def test_an_attempt_whose_meshes_are_there_never_asks_the_maker(task: Task) -> None:
    executor = separate("Specks")
    try:
        first = run_to_end(executor, task, lambda _: None, threading.Event())
        executor.maker.close()
        seen: list[Progress] = []
        second = run_to_end(executor, replace(task, attempt=2), seen.append, threading.Event())
    finally:
        executor.close()
    assert (second.mesh, second.warnings) == (first.mesh, first.warnings)
    assert set(second.timings) == set(first.timings)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[0] > 0.6


def test_meshes_that_cannot_be_read_are_made_anew(task: Task) -> None:
    task.checkpoint.mkdir()
    (task.checkpoint / "meshes.npz").write_bytes(b"torn")
    executor = separate("Specks")
    try:
        with pytest.raises(WorkerLost):
            run_to_end(executor, task, lambda _: None, threading.Event())
        again = replace(task, attempt=2)
        assert run_to_end(executor, again, lambda _: None, threading.Event()).files
    finally:
        executor.close()


@pytest.mark.parametrize(
    ("end", "error"), [("cancel", Cancelled), ("close", WorkerLost), ("kill", WorkerLost)]
)
def test_what_ends_the_writing_leaves_the_maker_alone(
    task: Task, blocking_blender: BlockingBlender, end: str, error: type[Exception]
) -> None:
    executor, cancelled = separate("Specks", blender=blocking_blender.program), threading.Event()
    assert executor.writer is not None
    ends: dict[str, Callable[[], None]] = {
        "cancel": cancelled.set,
        "close": executor.writer.close,
        "kill": lambda: os.kill(executor.writer.child.pid, signal.SIGKILL),  # type: ignore[union-attr]
    }

    def note(progress: Progress) -> None:
        if blocking_blender.count() and not told:
            told.append(progress)
            ends[end]()

    told: list[Progress] = []
    try:
        executor.start()
        maker = executor.maker.child
        with pytest.raises(error):
            run_to_end(executor, task, note, cancelled)
        assert told and maker is not None and maker.is_alive and executor.has_room
        wait_until(lambda: not blocking_blender.is_running())
    finally:
        executor.close()


def test_a_clip_that_cannot_be_read_ahead_fails_in_its_own_turn(task: Task) -> None:
    executor = separate("Specks")
    other = replace(task, job_id="next", folder=task.folder.with_name("next"))
    other.folder.mkdir()
    (other.folder / "input").write_bytes(b"no zip")
    try:
        run_to_end(executor, task, lambda _: executor.expect(other), threading.Event())
        with pytest.raises(JobFailed, match="video_unreadable"):
            run_to_end(executor, other, lambda _: None, threading.Event())
    finally:
        executor.close()


def test_the_deadline_holds_for_the_writing_too(
    task: Task, blocking_blender: BlockingBlender
) -> None:
    executor = separate("Specks", job_timeout_s=10.0, blender=blocking_blender.program)
    try:
        load(executor)
        with pytest.raises(JobFailed, match="timed_out"):
            run_to_end(executor, task, lambda _: None, threading.Event())
        assert blocking_blender.count() == 1 and executor.is_ready
    finally:
        executor.close()


def test_idle_children_give_their_memory_back(task: Task) -> None:
    executor = separate("Specks", idle_unload_s=0.2)
    try:
        run_to_end(executor, task, lambda _: None, threading.Event())
        assert executor.writer is not None

        def both_are_gone() -> bool:
            executor.wait(0.05)
            return (
                executor.is_resting and executor.writer is not None and executor.writer.is_resting
            )

        wait_until(both_are_gone)
        again = replace(task, attempt=2)
        assert run_to_end(executor, again, lambda _: None, threading.Event()).files
        assert executor.is_resting  # its meshes were there
    finally:
        executor.close()


def test_the_writer_loads_no_pipeline_and_no_torch(task: Task) -> None:
    executor = separate("Bends")
    try:
        run_to_end(executor, task, lambda _: None, threading.Event())
    finally:
        executor.close()
    code = (
        "import json, sys, threading\n"
        "from executors.base import Task\n"
        "from job_runner import Recipe\n"
        "recipe = Recipe(None, lambda *_, **__: None, threading.Event())\n"
        "recipe.load()\n"
        "assert recipe.write(Task.from_dict(json.loads(sys.argv[1]))).files\n"
        "print(*sys.modules)"
    )
    record = replace(task, attempt=2).to_dict()
    loaded = subprocess.run(
        [sys.executable, "-c", code, json.dumps(record)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert "meshes.preview" in loaded
    assert not {"torch", "actionmesh_wrapper", "upstream", "silhouette"} & set(loaded)


# --- two jobs on a server


@pytest.fixture
def pipeline() -> str:
    return "StampsItsBeginning"


@pytest.fixture
def executor(blocking_blender: BlockingBlender, pipeline: str) -> LocalExecutor:
    return separate(pipeline, blender=blocking_blender.program)


@pytest.fixture
def client(
    tmp_path: Path, executor: LocalExecutor, blocking_blender: BlockingBlender
) -> Iterator[httpx.Client]:
    with (
        thread_server(tmp_path / "jobs", executor) as server,
        httpx.Client(base_url=server.url, timeout=60) as made,
    ):
        yield made
        blocking_blender.release()


@pytest.mark.parametrize("pipeline", ["StampsItsBeginningSlowly"])
def test_the_next_job_begins_while_the_files_of_the_last_are_written(
    client: httpx.Client,
    tmp_path: Path,
    blocking_blender: BlockingBlender,
    record_property: Callable[[str, object], None],
) -> None:
    """The clip takes longer to decode than the gap may be: it is read while the GPU is busy."""
    clip = numbered(tmp_path / "large.mp4", 90, size=(1920, 1080)).read_bytes()
    fields = {"blender_export": "true", "max_frames": "16"}
    first, second, third = (str(send(client, clip, fields).json()["job_id"]) for _ in range(3))
    wait_until(lambda: stamps(tmp_path, second), 30.0)
    made_at = (tmp_path / "jobs" / first / "checkpoint" / "made.json").stat().st_mtime
    gap_s = stamps(tmp_path, second)[0] - made_at
    record_property("gap_s", round(gap_s, 3))
    assert status(client, first) == "running"
    assert gap_s <= 0.5
    # of jobs that are made one is written and one may wait; the next keeps its place
    wait_until(lambda: (tmp_path / "jobs" / second / "checkpoint").exists(), 30.0)
    wait_until(blocking_blender.count, 30.0)
    assert (blocking_blender.count(), status(client, second)) == (1, "running")
    assert status(client, third) == "queued"
    blocking_blender.release()
    for job_id in (first, second, third):
        assert ended(client, job_id)["status"] == "finished"


def test_a_killed_writer_costs_no_meshes_and_not_the_other_job(
    client: httpx.Client, executor: LocalExecutor, tmp_path: Path, blocking_blender: BlockingBlender
) -> None:
    first, second = submit(client, blender_export="true"), submit(client)
    wait_until(lambda: blocking_blender.count() and stamps(tmp_path, second), 30.0)
    assert executor.writer is not None and executor.writer.child is not None
    maker = executor.maker.child
    os.kill(executor.writer.child.pid, signal.SIGKILL)
    blocking_blender.release()
    assert ended(client, first)["status"] == ended(client, second)["status"] == "finished"
    assert attempts(client, first) == 2 and attempts(client, second) == 1
    assert len(stamps(tmp_path, first)) == len(stamps(tmp_path, second)) == 1
    assert executor.maker.child is maker


def test_a_killed_maker_costs_its_own_job_an_attempt_and_not_the_files(
    client: httpx.Client, executor: LocalExecutor, tmp_path: Path, blocking_blender: BlockingBlender
) -> None:
    first, second = submit(client, blender_export="true"), submit(client)
    wait_until(lambda: stamps(tmp_path, second), 30.0)
    assert executor.maker.child is not None
    os.kill(executor.maker.child.pid, signal.SIGKILL)
    wait_until(blocking_blender.count, 30.0)
    blocking_blender.release()
    assert ended(client, first)["status"] == ended(client, second)["status"] == "finished"
    assert attempts(client, first) == 1 and attempts(client, second) == 2


@pytest.mark.parametrize("whose", ["written", "waiting"])
@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_a_job_whose_meshes_are_made_can_be_ended(
    client: httpx.Client, tmp_path: Path, blocking_blender: BlockingBlender, whose: str, how: str
) -> None:
    first, second = submit(client, blender_export="true"), submit(client)
    waits = tmp_path / "jobs" / second / "checkpoint"
    wait_until(lambda: blocking_blender.count() and waits.exists(), 30.0)
    doomed, other = (first, second) if whose == "written" else (second, first)
    if how == "cancel":
        client.post(f"/jobs/{doomed}/cancel").raise_for_status()
        wait_until(lambda: status(client, doomed) == "cancelled")
    else:
        client.delete(f"/jobs/{doomed}").raise_for_status()
    if whose == "written":
        wait_until(lambda: not blocking_blender.is_running())
    blocking_blender.release()
    assert ended(client, other)["status"] == "finished"
    assert attempts(client, other) == 1


def stamps(tmp_path: Path, job_id: str) -> list[float]:
    """When a job's pipeline began, once for each time."""
    path = tmp_path / f"{job_id}.began"
    return [float(line) for line in path.read_text().split()] if path.exists() else []


def status(client: httpx.Client, job_id: str) -> str:
    return str(client.get(f"/jobs/{job_id}").json()["status"])


def attempts(client: httpx.Client, job_id: str) -> int:
    return int(client.get(f"/jobs/{job_id}").json()["attempt"])
