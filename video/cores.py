"""Independent work on several cores: how many this process uses, and `in_order`, which uses them.

Forked processes, not threads: drawing a frame is thousands of short numpy calls, and each of them
needs Python's lock. On two cores two threads draw 1.3 to 1.5 times as fast as one, two processes
1.75 times. A fork copies no memory until it is written, so work may use whatever its caller sees.
It also copies locks that other threads hold, which nobody opens there: a worker that waits for one
is ended, and this process does its work.
child/main.py sets the number of cores; until then, and in every other process, it is one.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import logging
import os
import pickle
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

MOST_CORES = 8
"""Of one process. Each worker holds the pictures of a frame or two: about 60 MB for a preview."""

STUCK_S = 20.0
"""A worker that owes a result and uses no CPU time for so long is taken to be stuck."""

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_PIPE_BYTES = 1 << 20
_cores = 1


def use_cores(wanted: int, sharing: int = 1) -> int:
    """Set and return how many cores `in_order` uses; 0 is automatic.

    Automatic is this process's part where `sharing` processes do the same work: all cores that it
    may run on but one, and two where there are two; at most MOST_CORES.
    """
    global _cores
    most = _allowed_cores()
    free = max(most - 1, min(most, 2))
    _cores = min(wanted or max(1, free // sharing), MOST_CORES)
    return _cores


def in_order(work: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """Like `map`, on all cores of this process: the same results in the same order.

    What `work` changes is lost.
    """
    count = max(1, min(_cores, len(items)))
    return taking_turns([map(work, items[k::count]) for k in range(count)])


def taking_turns(chains: Sequence[Iterator[Made]]) -> Iterator[Made]:
    """The next result of each chain in turn, until all have ended.

    Where there are enough cores, each chain is worked on by a process of its own, which waits until
    its last result is read: one finished result for each is in memory. What a chain raises is
    raised here. Closing the iterator ends the workers. A worker that a signal ends (a crash, too
    little memory) takes this process with it, as if that had done the work itself.
    """
    if len(chains) < 2 or len(chains) > _cores or sys.platform != "linux":
        yield from _one_after_another(chains)
        return
    workers: list[_Worker] = []
    try:
        for chain in chains:
            workers.append(_Worker(chain, len(chains)))
        yield from _one_after_another(workers)
    finally:
        for worker in workers:
            worker.end()


def _one_after_another(chains: Sequence[Iterator[Made]]) -> Iterator[Made]:
    running = list(chains)
    while running:
        for chain in list(running):
            try:
                made = next(chain)
            except StopIteration:
                running.remove(chain)
            else:
                yield made


class _Worker(Iterator[Any]):
    """The results of a chain, from a forked process that sends them through a pipe."""

    def __init__(self, chain: Iterator[Any], count: int) -> None:
        """One of `count` workers."""
        read_end, write_end = os.pipe()
        with suppress(OSError):  # of all users but root, only so many pipes may be so large
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        parent = os.getpid()
        # a worker must not free this process's garbage: a net's session would wait for its threads,
        # which are not there
        collects = gc.isenabled()
        gc.disable()
        with warnings.catch_warnings():
            # other threads exist; they hold no lock that the work needs, or it is found out
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid and collects:
            gc.enable()
        if not self.pid:
            os.close(read_end)
            _work_and_exit(chain, count, parent, Connection(write_end, readable=False))
        os.close(write_end)
        self._answers = Connection(read_end, writable=False)
        self._chain, self._read = chain, 0
        self._is_ours = False

    def __next__(self) -> Any:
        """Raises what the chain raised, StopIteration at its end."""
        self._wait()
        if self._is_ours:
            return next(self._chain)
        try:
            made, error, trace = pickle.loads(self._answers.recv_bytes())
        except (EOFError, OSError):  # OSError: in the middle of a result
            self._follow()
        self._read += 1
        if isinstance(error, StopIteration):
            raise error
        if error is not None:
            raise error from RuntimeError(f"in a worker process:\n{trace}")
        return made

    def _wait(self) -> None:
        """Until there is a result or an end of the process; take the work from a stuck worker."""
        used_s, since = -1.0, time.monotonic()
        while not self._is_ours and not self._answers.poll(min(1.0, STUCK_S)):
            now_s = _cpu_s(self.pid)
            if now_s != used_s:
                used_s, since = now_s, time.monotonic()
            elif time.monotonic() - since > STUCK_S:
                log.error("a worker process is stuck: its work is done here")
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGABRT)  # faulthandler writes where it waits
                self._chain = islice(self._chain, self._read, None)  # here none is made yet
                self._is_ours = True

    def _follow(self) -> NoReturn:
        """End as the worker has ended: it never closes its pipe without a result."""
        _, status = os.waitpid(self.pid, 0)
        os.kill(os.getpid(), os.WTERMSIG(status) or signal.SIGKILL)
        os._exit(1)

    def end(self) -> None:
        self._answers.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, its system calls included."""
    with suppress(OSError):  # it has just ended
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _work_and_exit(chain: Iterator[Any], count: int, parent: int, answers: Connection) -> NoReturn:
    """In the worker: ends with its parent, and never returns to its caller's code."""
    global _cores
    _cores = 1  # its work forks no further
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            _share_memory(count)
            is_last = False
            while not is_last:
                answer, is_last = _answer(chain)
                answers.send_bytes(answer)
    finally:
        os._exit(0)


def _answer(chain: Iterator[Any]) -> tuple[bytes, bool]:
    """The next result, or an error with its traceback, pickled; and whether it is the last one."""
    try:
        return pickle.dumps((next(chain), None, ""), pickle.HIGHEST_PROTOCOL), False
    except Exception as error:  # noqa: BLE001 - raised in the process that waits
        trace = traceback.format_exc()
        try:
            answer = pickle.dumps((None, error, trace))
            pickle.loads(answer)
        except Exception:  # noqa: BLE001 - of a class whose arguments are not its own
            answer = pickle.dumps((None, RuntimeError(repr(error)), trace))
        return answer, True


def _share_memory(count: int) -> None:
    """Leave each of `count` workers its part of what RLIMIT_DATA allows the whole process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
        used = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + max(0, soft - used) // count, hard))


def _allowed_cores() -> int:
    """The cores that this process may run on, by its affinity and its control group."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas(Path("/proc/self/cgroup"))]))


def _quotas(table: Path, root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Cores that cpu.max of this process's control group, and of those around it, allows."""
    lines = table.read_text().splitlines() if table.exists() else []
    for name in (line[len("0::/") :] for line in lines if line.startswith("0::/")):
        for folder in (root / name, *(root / name).parents):
            with suppress(OSError, ValueError):  # the outermost group has none; "max" is no limit
                quota, period = map(int, (folder / "cpu.max").read_text().split())
                yield quota // period
