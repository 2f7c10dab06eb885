"""LocalExecutor keeps every executor's promises, and its own: nothing is left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from errors import Cancelled
from executors.base import Executor, run_to_end
from executors.local import ChildOptions, LocalExecutor
from job.task import JobFailed, Progress, Task, WorkerLost
from tests.executors.conformance import ExecutorConformance
from tests.waiting import wait_until


def local(pipeline: str, job_timeout_s: float = 60.0, idle_unload_s: float = 0.0) -> LocalExecutor:
    return LocalExecutor(
        ChildOptions(
            f"tests.pipelines:{pipeline}", job_timeout_s=job_timeout_s, idle_unload_s=idle_unload_s
        )
    )


def load(executor: LocalExecutor) -> None:
    """Start the children and wait until they are ready: a busy machine takes seconds for that."""
    executor.start()

    def are_ready() -> bool:
        executor.wait(0.05)
        writer = executor.writer
        return executor.is_ready and (writer is None or writer.is_ready)

    wait_until(are_ready, 60.0)


class TestLocalExecutor(ExecutorConformance):
    def executor(self, pipeline: str, *, job_timeout_s: float = 60.0) -> Executor:
        return local(pipeline, job_timeout_s)

    def test_the_child_stays_the_same_between_tasks(self, task: Task) -> None:
        executor = local("Bends")
        try:
            run_to_end(executor, task, lambda _: None, threading.Event())
            first = executor.maker.child
            again = Task.from_dict({**task.to_dict(), "attempt": 2})
            run_to_end(executor, again, lambda _: None, threading.Event())
            assert executor.maker.child is first
        finally:
            executor.close()

    def test_a_job_that_is_deleted_while_it_runs_ends_and_its_child_lives(self, task: Task) -> None:
        executor = local("Sleeps")

        def delete(progress: Progress) -> None:
            if progress.stage == "motion":
                shutil.rmtree(task.folder, ignore_errors=True)

        try:
            with pytest.raises(Cancelled):
                run_to_end(executor, task, delete, threading.Event())
            child = executor.maker.child
            assert child is not None and child.is_alive
        finally:
            executor.close()

    def test_a_start_after_the_end_starts_nothing(self) -> None:
        executor = local("Bends")
        executor.close()
        executor.start()
        assert executor.maker.child is None

    def test_a_stopped_child_is_killed_at_the_deadline(self, task: Task) -> None:
        executor = local("SleepsLong", job_timeout_s=6.0)
        stopped = threading.Event()

        def stop_it(_: object) -> None:
            if not stopped.is_set() and executor.maker.child is not None:
                os.kill(executor.maker.child.pid, signal.SIGSTOP)
                stopped.set()

        try:
            load(executor)
            with pytest.raises(Exception, match="timed_out"):
                run_to_end(executor, task, stop_it, threading.Event())
            assert stopped.is_set()
        finally:
            executor.close()

    def test_a_child_that_hangs_while_it_loads_is_killed(self, task: Task) -> None:
        executor = local("HangsWhileLoading", job_timeout_s=2.0)
        try:
            with pytest.raises(JobFailed, match="timed_out"):
                run_to_end(executor, task, lambda _: None, threading.Event())
            assert executor.maker.child is None
        finally:
            executor.close()

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to RLIMIT_DATA")
    def test_a_job_that_eats_memory_ends_its_child_and_not_the_machine(self, task: Task) -> None:
        executor = LocalExecutor(ChildOptions("tests.pipelines:EatsMemory", memory_mb=1024))
        try:
            with pytest.raises(WorkerLost, match="exit code 70"):
                run_to_end(executor, task, lambda _: None, threading.Event())
        finally:
            executor.close()

    @pytest.mark.skipif(sys.platform != "linux", reason="the out-of-memory killer is Linux's")
    def test_when_memory_is_short_the_kernel_takes_the_child_first(self, task: Task) -> None:
        executor = local("Bends")
        try:
            executor.start()
            assert executor.maker.child is not None
            score = Path(f"/proc/{executor.maker.child.pid}/oom_score_adj")
            wait_until(lambda: score.read_text().strip() == "500")
        finally:
            executor.close()

    def test_an_idle_child_gives_its_memory_back(self, task: Task) -> None:
        executor = local("Bends", idle_unload_s=0.2)
        try:
            run_to_end(executor, task, lambda _: None, threading.Event())
            pid = executor.maker.child.pid if executor.maker.child else 0
            time.sleep(0.3)
            executor.wait(0.0)
            assert executor.is_resting and not _alive(pid)
            again = Task.from_dict({**task.to_dict(), "attempt": 2})
            assert run_to_end(executor, again, lambda _: None, threading.Event()).files
        finally:
            executor.close()

    def test_a_child_knows_no_secret_of_the_server(
        self, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("API_KEY", "secret")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        executor = local("SleepsLong")
        try:
            executor.start()
            assert executor.maker.child is not None
            environment = Path(f"/proc/{executor.maker.child.pid}/environ")
            wait_until(lambda: b"OMP_NUM_THREADS" in environment.read_bytes())
            content = environment.read_bytes()
            assert b"API_KEY" not in content and b"PROXY" not in content
        finally:
            executor.close()

    def test_no_descriptor_is_left_after_many_children(self, task: Task) -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        local_ = local("Exits")
        with pytest.raises(WorkerLost):
            run_to_end(local_, task, lambda _: None, threading.Event())
        before = descriptors()
        for attempt in (2, 3, 4):
            again = Task.from_dict({**task.to_dict(), "attempt": attempt})
            with pytest.raises(WorkerLost):
                run_to_end(local_, again, lambda _: None, threading.Event())
        local_.close()
        assert descriptors() <= before


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_child_dies_with_a_killed_parent_even_when_stopped(tmp_path: Path) -> None:
    code = (
        "import time; from executors.local import *;"
        "e = LocalExecutor(ChildOptions('tests.pipelines:Bends')); e.start();"
        "print(e.maker.child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_until(lambda: b"child/main.py" in Path(f"/proc/{child}/cmdline").read_bytes())
        score = Path(f"/proc/{child}/oom_score_adj")  # it asks for its death signal just before
        wait_until(lambda: score.read_text().strip() == "500")
        os.kill(child, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        wait_until(lambda: not _alive(child))
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout:
            parent.stdout.close()


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
