"""The limits of the processes that run jobs: memory, CPU time, files, descriptors, core dumps."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from child.limits import FILE_MB, OPEN_FILES
from executors.base import ExecutorOptions, run_to_end
from executors.local import EXPORT_MEMORY_MB, LocalExecutor
from job.task import ChildConfig, Failed, Lost, Result, Task
from tests.executors.conformance import options
from tests.job_factory import with_options


def watched(pipeline: str) -> LocalExecutor:
    """With a limit of memory that is held as for ActionMesh, from outside."""
    config = ChildConfig(f"tests.pipelines:{pipeline}", memory_mb=300, uses_cuda=True)
    return LocalExecutor(ExecutorOptions(config))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process uses")
def test_a_child_with_cuda_is_ended_if_it_uses_too_much_memory(task: Task) -> None:
    with closing(watched("GrowsMemory")) as executor:
        outcome = run_to_end(executor, task)
        assert isinstance(outcome, Lost) and outcome.crash == ""
        assert "used more than 0.315 GB of memory" in outcome.reason


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process uses")
def test_mapped_weights_do_not_count_as_memory(task: Task) -> None:
    with closing(watched("ReadsAMappedFile")) as executor:
        outcome = run_to_end(executor, task)
        assert isinstance(outcome, Result), outcome


def test_a_file_that_is_too_large_fails_its_job_only(task: Task) -> None:
    with closing(LocalExecutor(options("WritesAHugeFile"))) as executor:
        outcome = run_to_end(executor, task)
        assert isinstance(outcome, Failed) and outcome.error.code == "internal_error"
        assert executor.status.is_ready


def test_cpu_time_is_limited_even_if_the_parent_does_not_look(task: Task) -> None:
    config = ChildConfig("tests.pipelines:Spins", task_s=0.2)
    with closing(LocalExecutor(ExecutorOptions(config))) as executor:
        outcome = run_to_end(executor, task)
        assert isinstance(outcome, Lost) and "SIGXCPU" in outcome.reason


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("separate_files", [False, True])
def test_every_child_runs_under_limits(task: Task, separate_files: bool) -> None:
    config = ChildConfig("tests.pipelines:Bends", memory_mb=2048, task_s=60.0)
    limited = ExecutorOptions(config, separate_files=separate_files)
    with closing(LocalExecutor(limited)) as executor:
        assert isinstance(run_to_end(executor, with_options(task, max_frames=62)), Result)
        cores = os.cpu_count() or 1
        for supervisor in (*executor.slots, *executor.exports):
            assert supervisor.child is not None
            lines = Path(f"/proc/{supervisor.child.pid}/limits").read_text().splitlines()
            soft = {line[:26].strip(): line[26:].split()[0] for line in lines}
            assert soft["Max core file size"] == "0"
            assert int(soft["Max file size"]) == FILE_MB << 20
            assert int(soft["Max open files"]) <= OPEN_FILES
            assert 120 * cores < int(soft["Max cpu time"]) < 120 * cores + 60
            assert int(soft["Max data size"]) <= EXPORT_MEMORY_MB << 20
