"""LocalExecutor passes the suite of every executor, and its own: nothing is left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from executors.base import Executor, ExecutorOptions, run_to_end
from executors.child_process import child_environment
from executors.local import LocalExecutor
from job.task import ChildConfig, Failed, Lost, Progress, Result, Stopped, Task
from pipeline import Gpu
from tests.executors.conformance import ExecutorConformance, options
from tests.job_factory import with_options
from tests.waiting import wait_until


@contextmanager
def local(pipeline: str, job_timeout_s: float = 60.0) -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(options(pipeline, job_timeout_s=job_timeout_s))) as executor:
        yield executor


def load(executor: LocalExecutor) -> None:
    """Start the children and wait until they are ready: on a busy machine this takes seconds."""
    executor.start()

    def are_ready() -> bool:
        executor.poll(0.05)
        return all(child.status.is_ready for child in (*executor.slots, *executor.exports))

    wait_until(are_ready, 60.0)


class TestLocalExecutor(ExecutorConformance):
    def executor(self, options: ExecutorOptions) -> Executor:
        return LocalExecutor(options)


def test_the_child_stays_the_same_between_tasks(task: Task) -> None:
    with local("Bends") as executor:
        run_to_end(executor, task)
        first = executor.slots[0].child
        run_to_end(executor, replace(task, attempt=2))
        assert executor.slots[0].child is first


def test_a_job_that_is_deleted_while_it_runs_does_not_end_its_child(task: Task) -> None:
    def delete(progress: Progress) -> None:
        if progress.stage == "motion":
            shutil.rmtree(task.folder, ignore_errors=True)

    with local("Sleeps") as executor:
        assert isinstance(run_to_end(executor, task, delete), Stopped)
        child = executor.slots[0].child
        assert child is not None and child.is_alive


def test_a_start_after_the_end_starts_nothing(task: Task) -> None:
    with local("Bends") as executor:
        executor.close()
        executor.start()
        assert executor.slots[0].child is None
        assert run_to_end(executor, task) == Lost("the server is stopping")


def test_a_stopped_child_is_killed_at_the_deadline(task: Task) -> None:
    stopped: list[int] = []

    def stop_it(_: object) -> None:
        if not stopped and executor.slots[0].child is not None:
            stopped.append(executor.slots[0].child.pid)
            os.kill(stopped[0], signal.SIGSTOP)

    with local("SleepsLong", job_timeout_s=2.0) as executor:
        load(executor)
        outcome = run_to_end(executor, with_options(task, max_frames=62), stop_it)
        assert isinstance(outcome, Failed) and outcome.error.code == "timed_out"
        assert outcome.error.facts["timeout_s"] == 4.0  # JOB_TIMEOUT is for 31 frames
        assert stopped and not _alive(stopped[0])


def test_a_child_that_hangs_while_it_loads_is_killed(task: Task) -> None:
    with local("HangsWhileLoading", job_timeout_s=2.0) as executor:
        outcome = run_to_end(executor, task)
        assert isinstance(outcome, Failed) and outcome.error.code == "timed_out"
        assert executor.slots[0].child is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to RLIMIT_DATA")
def test_a_job_that_eats_memory_ends_its_child_and_not_the_machine(task: Task) -> None:
    config = ChildConfig("tests.pipelines:EatsMemory", memory_mb=1024)
    with closing(LocalExecutor(ExecutorOptions(config))) as executor:
        outcome = run_to_end(executor, task)
        assert isinstance(outcome, Lost) and "exit code 70" in outcome.reason


@pytest.mark.skipif(sys.platform != "linux", reason="the out-of-memory killer is Linux's")
def test_when_memory_runs_out_the_kernel_kills_the_child_first() -> None:
    with local("Bends") as executor:
        executor.start()
        assert executor.slots[0].child is not None
        score = Path(f"/proc/{executor.slots[0].child.pid}/oom_score_adj")
        wait_until(lambda: score.read_text().strip() == "500")


CRASHES = [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGTRAP]


@pytest.mark.parametrize("number", [*CRASHES, 35, 15, 9])
def test_only_signals_of_native_code_are_crashes(task: Task, number: int) -> None:
    def send(progress: Progress) -> None:
        if progress.stage == "motion" and executor.slots[0].child is not None:
            os.kill(executor.slots[0].child.pid, number)

    with local("Sleeps") as executor:
        outcome = run_to_end(executor, task, send)
    if number == signal.SIGTERM:  # children ignore it
        assert isinstance(outcome, Result)
        return
    assert isinstance(outcome, Lost)
    assert outcome.crash == (signal.Signals(number).name if number in CRASHES else "")


def test_an_idle_child_is_ended(task: Task) -> None:
    idle = replace(options("Bends"), idle_unload_s=0.2)
    with closing(LocalExecutor(idle)) as executor:
        assert isinstance(run_to_end(executor, task), Result)
        assert executor.slots[0].child is not None
        pid = executor.slots[0].child.pid

        def is_unloaded() -> bool:
            executor.poll(0.05)
            return executor.status.is_unloaded

        wait_until(is_unloaded)
        assert not _alive(pid)
        assert isinstance(run_to_end(executor, replace(task, attempt=2)), Result)


def test_a_child_knows_no_secret_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with local("SleepsLong") as executor:
        executor.start()
        assert executor.slots[0].child is not None
        environment = Path(f"/proc/{executor.slots[0].child.pid}/environ")
        wait_until(lambda: b"OMP_NUM_THREADS" in environment.read_bytes())
        content = environment.read_bytes()
        assert b"API_KEY" not in content and b"PROXY" not in content


PASSED_ON = (
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "XDG_CACHE_HOME", "PYTHONPATH", "CC", "CXX",
    "TRITON_CACHE_DIR", "HF_HUB_DISABLE_XET", "HF_XET_HIGH_PERFORMANCE", "SSL_CERT_FILE",
    "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT",
    "REQUESTS_CA_BUNDLE", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF",
)  # fmt: skip


def test_a_child_knows_what_its_libraries_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PASSED_ON:
        monkeypatch.setenv(name, f"the server's {name}")
    with local("SleepsLong") as executor:
        executor.start()
        environment = environment_of(executor)
    assert {name: environment.get(name) for name in PASSED_ON} == {
        name: f"the server's {name}" for name in PASSED_ON
    }


def environment_of(executor: LocalExecutor) -> dict[str, str]:
    """What the first child was started with."""
    child = executor.slots[0].child
    assert child is not None
    path = Path(f"/proc/{child.pid}/environ")
    wait_until(lambda: b"OMP_NUM_THREADS" in path.read_bytes())
    pairs = (pair.partition("=") for pair in path.read_text().split("\0"))
    return {name: value for name, _, value in pairs}


def test_a_pipeline_that_only_pythonpath_leads_to_is_found(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from tests.pipelines import Specks\nclass Mine(Specks):\n    pass\n"
    (tmp_path / "somewhere_else.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options = ExecutorOptions(ChildConfig("somewhere_else:Mine"))
    with closing(LocalExecutor(options)) as executor:
        assert isinstance(run_to_end(executor, task), Result)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "a"}, {"PYTORCH_CUDA_ALLOC_CONF": "a"}),
        ({"PYTORCH_ALLOC_CONF": "b"}, {"PYTORCH_ALLOC_CONF": "b"}),
    ],
)
def test_torch_grows_its_segments_unless_the_user_chose(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    found = child_environment(given)
    assert {name: value for name, value in found.items() if "ALLOC" in name} == expected


def test_only_a_child_that_downloads_knows_the_proxy() -> None:
    proxies = {"HTTPS_PROXY": "http://user:password@127.0.0.1:9", "no_proxy": "localhost"}
    assert not proxies.keys() & child_environment(proxies).keys()
    assert proxies.items() <= child_environment(proxies, downloads=True).items()


def test_a_node_of_a_cluster_names_its_own_model() -> None:
    """The server sends no paths to a node (tests/test_settings.py)."""
    assert child_environment({"SUBJECT_MODEL": "/node"})["SUBJECT_MODEL"] == "/node"


def test_a_child_sees_only_the_gpu_of_its_slot() -> None:
    given = {"CUDA_VISIBLE_DEVICES": "2,3"}
    gpu = Gpu("any", 80.0, selector="3")
    assert child_environment(given, gpu=gpu)["CUDA_VISIBLE_DEVICES"] == "3"
    only = replace(gpu, selector="")
    assert child_environment(given, gpu=only)["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_a_child_is_set_by_its_first_message(task: Task) -> None:
    config = ChildConfig(
        "tests.pipelines:ReportsItsEnvironment", environment={"ACTIONMESH_COMPILE": "1"}
    )
    with closing(LocalExecutor(ExecutorOptions(config))) as executor:
        outcome = run_to_end(executor, task)
        assert isinstance(outcome, Result)
        assert outcome.warnings[0] == {"code": "compile", "message": "1"}


def test_no_descriptor_is_left_after_many_children(task: Task) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with local("Exits") as executor:
        assert isinstance(run_to_end(executor, task), Lost)
        before = descriptors()
        for attempt in (2, 3, 4):
            assert isinstance(run_to_end(executor, replace(task, attempt=attempt)), Lost)
    assert descriptors() <= before


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_child_dies_with_a_killed_parent_even_when_stopped(tmp_path: Path) -> None:
    code = (
        "import time; from executors.local import LocalExecutor;"
        "from tests.executors.conformance import options;"
        "e = LocalExecutor(options('Bends')); e.start();"
        "print(e.slots[0].child.pid, flush=True); time.sleep(60)"
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
