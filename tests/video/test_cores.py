"""Work on several cores gives what one core gives, fails as one core fails, and leaves nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshes.external_tools import ToolFailed
from tests.waiting import wait_until
from video import cores
from video.cores import in_order, use_cores

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one core")


@pytest.fixture(autouse=True)
def three_cores() -> Iterator[None]:
    use_cores(3)
    yield
    use_cores(1)


def test_results_are_in_order_and_made_by_other_processes() -> None:
    made = list(in_order(lambda item: (item, os.getpid()), range(10)))
    assert [item for item, _ in made] == list(range(10))
    workers = {pid for _, pid in made}
    assert len(workers) == 3 and os.getpid() not in workers
    assert not any(map(_exists, workers))


@pytest.mark.parametrize("items", [[], ["one"]])
def test_few_items_need_no_other_process(items: list[str]) -> None:
    assert list(in_order(lambda _: os.getpid(), items)) == [os.getpid()] * len(items)


def test_results_may_be_larger_than_a_pipe() -> None:
    assert [len(made) for made in in_order(bytes, [5_000_000, 1, 5_000_000, 2])] == [
        5_000_000, 1, 5_000_000, 2,
    ]  # fmt: skip


def test_the_work_of_a_stuck_worker_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "STUCK_S", 0.2)
    here, lock = os.getpid(), threading.Lock()

    def work(item: int) -> tuple[int, bool]:
        if item == 4 and os.getpid() != here:
            with lock:  # a lock of the process that the worker was copied from: open only there
                pass
        return item, os.getpid() == here

    with lock:
        results = in_order(work, range(9))
        assert [next(results) for _ in range(3)] == [(0, False), (1, False), (2, False)]
    assert list(results) == [(k, k % 3 == 1) for k in range(3, 9)]


class _Threaded:
    """As a net's session: to free it, its threads must end, which a worker does not have."""

    def __init__(self) -> None:
        self.itself, self.home = self, os.getpid()

    def __del__(self) -> None:
        while os.getpid() != self.home:
            signal.pause()


def test_a_worker_does_not_free_what_its_process_left_behind() -> None:
    _Threaded()  # only the garbage collector can free it
    made = list(in_order(lambda _: (len([[] for _ in range(20_000)]), os.getpid()), range(6)))
    assert len(made) == 6 and os.getpid() not in dict(made).values()
    assert gc.isenabled()


def test_an_error_is_raised_at_its_place_with_what_it_holds() -> None:
    def work(item: int) -> int:
        if item == 4:
            raise ToolFailed("no picture", "the log's end")
        return item

    results = in_order(work, range(10))
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ToolFailed) as failure:
        next(results)
    assert str(failure.value) == "no picture" and failure.value.log == "the log's end"
    assert "in work" in str(failure.value.__cause__)


def test_an_error_that_cannot_be_sent_is_told_by_its_name() -> None:
    class LocalError(Exception):
        """Pickle finds no class inside of a function."""

    def work(_: int) -> None:
        raise LocalError("in here")

    with pytest.raises(RuntimeError, match=r"LocalError\('in here'\)"):
        list(in_order(work, range(2)))


def test_closing_ends_the_workers() -> None:
    results = in_order(lambda _: os.getpid(), range(30))
    workers = {next(results) for _ in range(3)}
    assert all(map(_exists, workers))
    results.close()  # type: ignore[attr-defined] # it is a generator
    assert not any(map(_exists, workers))


_WORKER_CRASHES = """
import os, signal
from video.cores import in_order, use_cores
use_cores(2)
list(in_order(lambda _: os.kill(os.getpid(), signal.SIGSEGV), range(2)))
"""


def test_a_crash_of_a_worker_is_a_crash_of_its_process() -> None:
    ended = subprocess.run([sys.executable, "-c", _WORKER_CRASHES], cwd=ROOT)
    assert ended.returncode == -signal.SIGSEGV


_WORKERS_WAIT = """
import os, signal
from video.cores import in_order, use_cores
def work(_):
    os.write(1, b"%d\\n" % os.getpid())  # in one piece
    signal.pause()
use_cores(2)
list(in_order(work, range(2)))
"""


def test_workers_end_with_a_killed_process() -> None:
    command = [sys.executable, "-u", "-c", _WORKERS_WAIT]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        workers = [int(process.stdout.readline()) for _ in range(2)]
        assert all(map(_exists, workers))
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(_exists, workers)))


_WORKERS_NEED_MEMORY = """
import resource, numpy
from video.cores import in_order, use_cores
resource.setrlimit(resource.RLIMIT_DATA, (600 << 20, -1))
numpy.ones(350 << 20, numpy.uint8)
use_cores(2)
try:
    list(in_order(lambda _: numpy.ones(350 << 20, numpy.uint8).sum(), range(2)))
except MemoryError:
    print("MemoryError")
"""


def test_workers_share_what_their_process_may_use() -> None:
    command = [sys.executable, "-c", _WORKERS_NEED_MEMORY]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).stdout == b"MemoryError\n"


@pytest.mark.parametrize(
    ("allowed", "sharing", "used"),
    [(1, 1, 1), (2, 1, 2), (3, 1, 2), (4, 1, 3), (16, 1, 8), (16, 4, 3), (2, 4, 1)],
)
def test_automatic_leaves_a_core_to_the_api(
    monkeypatch: pytest.MonkeyPatch, allowed: int, sharing: int, used: int
) -> None:
    monkeypatch.setattr(cores, "_allowed_cores", lambda: allowed)
    assert use_cores(0, sharing) == used


def test_the_affinity_counts() -> None:
    all_cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(all_cores)})
        assert use_cores(0) == 1
    finally:
        os.sched_setaffinity(0, all_cores)


def test_the_quotas_of_all_control_groups_count(tmp_path: Path) -> None:
    table, inner = tmp_path / "cgroup", tmp_path / "fs" / "outer" / "inner"
    inner.mkdir(parents=True)
    table.write_text("9:cpu:/\n0::/outer/inner\n")
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("350000 100000\n")
    assert list(cores._quotas(table, tmp_path / "fs")) == [3]


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
