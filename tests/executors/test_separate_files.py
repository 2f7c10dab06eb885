"""Two children, one for meshes and one for files: neither waits for the other or ends with it.

A program that is called like Blender blocks the export of a job until the test releases it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from executors.base import ExecutorOptions, run_to_end
from executors.local import LocalExecutor
from job.task import ChildConfig, Failed, Lost, Outcome, Progress, Result, Stopped, Task
from tests.api.bodies import ended, frames_zip, send, submit
from tests.executors.blocking_blender import BlockingBlender
from tests.executors.conformance import assert_whole
from tests.executors.test_local import load
from tests.job_factory import OPTIONS, with_options
from tests.servers import ROOT, thread_server
from tests.video.clips import numbered
from tests.waiting import wait_until


def separate(
    pipeline: str, job_timeout_s: float = 60.0, idle_unload_s: float = 0.0, blender: str = ""
) -> LocalExecutor:
    config = ChildConfig(f"tests.pipelines:{pipeline}", blender_path=blender)
    return LocalExecutor(ExecutorOptions(config, job_timeout_s, idle_unload_s, separate_files=True))


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


def test_two_children_make_the_same_files_as_one(task: Task) -> None:
    task, seen = with_options(task, blender_export=False), list[Progress]()
    with closing(separate("Bends")) as executor:
        outcome = run_to_end(executor, task, seen.append)
    assert_whole(outcome, seen, task)


def test_an_attempt_with_a_checkpoint_does_not_use_the_compute_child(task: Task) -> None:
    seen: list[Progress] = []
    with closing(separate("Specks")) as executor:
        first = run_to_end(executor, task)
        executor.slots[0].close()
        second = run_to_end(executor, replace(task, attempt=2), seen.append)
    assert isinstance(first, Result) and isinstance(second, Result)
    assert (second.mesh, second.warnings) == (first.mesh, first.warnings)
    assert set(second.timings) == set(first.timings)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[0] > 0.6


def test_meshes_that_cannot_be_read_are_computed_again(task: Task) -> None:
    task.checkpoint.mkdir()
    (task.checkpoint / "meshes.npz").write_bytes(b"torn")
    with closing(separate("Specks")) as executor:
        assert isinstance(run_to_end(executor, task), Lost)
        assert isinstance(run_to_end(executor, replace(task, attempt=2)), Result)


@pytest.mark.parametrize(
    ("end", "outcome"), [("cancel", Stopped), ("close", Lost), ("kill", Lost), ("crash", Lost)]
)
def test_a_failed_export_does_not_affect_the_compute_child(
    task: Task, blocking_blender: BlockingBlender, end: str, outcome: type[Outcome]
) -> None:
    executor = separate("Specks", blender=blocking_blender.program)
    (export,) = executor.exports
    ends: dict[str, Callable[[], None]] = {
        "cancel": lambda: executor.cancel(task.job_id),
        "close": export.close,
        "kill": lambda: os.kill(export.child.pid, signal.SIGKILL),  # type: ignore[union-attr]
        "crash": lambda: os.kill(export.child.pid, signal.SIGSEGV),  # type: ignore[union-attr]
    }
    reported: list[Progress] = []

    def note(progress: Progress) -> None:
        if blocking_blender.count() and not reported:
            reported.append(progress)
            ends[end]()

    with closing(executor):
        executor.start()
        compute = executor.slots[0].child
        found = run_to_end(executor, task, note)
        assert isinstance(found, outcome)
        assert not isinstance(found, Lost) or found.crash == ("SIGSEGV" if end == "crash" else "")
        assert reported and compute is not None and compute.is_alive and executor.has_room
        wait_until(lambda: not blocking_blender.is_running())


def test_a_clip_that_cannot_be_prefetched_fails_only_its_own_job(task: Task) -> None:
    other = replace(task, job_id="next", folder=task.folder.with_name("next"))
    other.folder.mkdir()
    (other.folder / "input").write_bytes(b"no zip")
    with closing(separate("Specks")) as executor:
        run_to_end(executor, task, lambda _: executor.prefetch(other))
        outcome = run_to_end(executor, other)
    assert isinstance(outcome, Failed) and outcome.error.code == "video_unreadable"


def test_the_deadline_holds_for_the_export_too(
    task: Task, blocking_blender: BlockingBlender
) -> None:
    with closing(separate("Specks", 10.0, blender=blocking_blender.program)) as executor:
        load(executor)
        outcome = run_to_end(executor, task)
        assert isinstance(outcome, Failed) and outcome.error.code == "timed_out"
        assert blocking_blender.count() == 1 and executor.status.is_ready


def test_an_export_child_that_must_start_first_has_no_more_time(
    task: Task, blocking_blender: BlockingBlender
) -> None:
    with closing(separate("Specks", blender=blocking_blender.program)) as executor:
        run_to_end(executor, with_options(task, blender_export=False))
        (export,) = executor.exports
        export.terminate()
        export.run_task("export", replace(task, attempt=2), time_left_s=2.0)
        events: list[object] = []

        def ends() -> bool:
            events.extend(export.poll(is_cancelled=False))
            return export.task is None

        wait_until(ends)
    assert isinstance(events[-1], Failed) and events[-1].error.code == "timed_out"


def test_idle_children_are_ended(task: Task) -> None:
    with closing(separate("Specks", idle_unload_s=0.2)) as executor:
        run_to_end(executor, task)

        def both_are_gone() -> bool:
            executor.poll(0.05)
            return all(c.status.is_unloaded for c in (*executor.slots, *executor.exports))

        wait_until(both_are_gone)
        assert isinstance(run_to_end(executor, replace(task, attempt=2)), Result)
        assert executor.status.is_unloaded  # its meshes were there


def test_the_export_child_loads_no_pipeline_and_no_torch(task: Task) -> None:
    with closing(separate("Bends")) as executor:
        run_to_end(executor, task)
    code = (
        "import json, sys, threading\n"
        "from child.recipe import Recipe\n"
        "from job.task import Task\n"
        "recipe = Recipe(None, lambda *_, **__: None, threading.Event())\n"
        "recipe.load()\n"
        "assert recipe.export(Task.from_dict(json.loads(sys.argv[1]))).files\n"
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
    wait_until(lambda: stamps(tmp_path, second))
    made_at = (tmp_path / "jobs" / first / "checkpoint" / "made.json").stat().st_mtime
    gap_s = stamps(tmp_path, second)[0] - made_at
    record_property("gap_s", round(gap_s, 3))
    assert status(client, first) == "running"
    assert gap_s <= 0.5
    # one computed job is exported and one may wait; the next one stays in the queue
    wait_until(lambda: (tmp_path / "jobs" / second / "checkpoint").exists())
    wait_until(blocking_blender.count)
    assert (blocking_blender.count(), status(client, second)) == (1, "running")
    assert status(client, third) == "queued"
    blocking_blender.release()
    for job_id in (first, second, third):
        assert ended(client, job_id)["status"] == "finished"


@pytest.mark.parametrize("pipeline", ["SleepsLong"])
def test_a_job_that_waited_already_when_the_last_one_began_is_read_too(
    client: httpx.Client, executor: LocalExecutor
) -> None:
    first, second, third = (submit(client) for _ in range(3))
    client.post(f"/jobs/{first}/cancel").raise_for_status()
    wait_until(lambda: executor.slots[0].prefetched == third)
    client.post(f"/jobs/{second}/cancel").raise_for_status()
    client.post(f"/jobs/{third}/cancel").raise_for_status()


def test_a_killed_export_child_loses_no_meshes_and_not_the_other_job(
    client: httpx.Client, executor: LocalExecutor, tmp_path: Path, blocking_blender: BlockingBlender
) -> None:
    first, second = submit(client, blender_export="true"), submit(client)
    wait_until(lambda: blocking_blender.count() and stamps(tmp_path, second))
    assert executor.exports[0].child is not None
    compute = executor.slots[0].child
    os.kill(executor.exports[0].child.pid, signal.SIGKILL)
    blocking_blender.release()
    assert ended(client, first)["status"] == ended(client, second)["status"] == "finished"
    assert attempts(client, first) == 2 and attempts(client, second) == 1
    assert len(stamps(tmp_path, first)) == len(stamps(tmp_path, second)) == 1
    assert executor.slots[0].child is compute


def test_a_killed_compute_child_loses_only_its_own_attempt(
    client: httpx.Client, executor: LocalExecutor, tmp_path: Path, blocking_blender: BlockingBlender
) -> None:
    first, second = submit(client, blender_export="true"), submit(client)
    wait_until(lambda: stamps(tmp_path, second))
    assert executor.slots[0].child is not None
    os.kill(executor.slots[0].child.pid, signal.SIGKILL)
    wait_until(blocking_blender.count)
    blocking_blender.release()
    assert ended(client, first)["status"] == ended(client, second)["status"] == "finished"
    assert attempts(client, first) == 1 and attempts(client, second) == 2


@pytest.mark.parametrize("whose", ["written", "waiting"])
@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_a_job_that_waits_for_export_can_be_ended(
    client: httpx.Client, tmp_path: Path, blocking_blender: BlockingBlender, whose: str, how: str
) -> None:
    first, second = submit(client, blender_export="true"), submit(client)
    waits = tmp_path / "jobs" / second / "checkpoint"
    wait_until(lambda: blocking_blender.count() and waits.exists())
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
