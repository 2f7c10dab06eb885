"""Lists processes from /proc (Linux), to find those that a killed server has left running.

Orphans would become children of init; `adopt_orphans` makes them children of this process, so that
every process left by a server that we started can be found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def adopt_orphans() -> Iterator[None]:
    """Inside the block, a descendant that loses its parent becomes a child of this process."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def descendants(pid: int, besides: Collection[int] = ()) -> set[int]:
    """Every living process below `pid`; zombies do not count, nor do
    the processes in `besides` and their descendants.
    """
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            if child in besides:
                continue
            waiting.append(child)
            if is_alive(child):
                found.add(child)
    return found


def is_alive(pid: int) -> bool:
    """False for a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def command(pid: int) -> str:
    """The command line; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def rss_mb(pid: int | str) -> float:
    """Resident memory now, in MB of 2**20 bytes."""
    return _status_mb(pid, "VmRSS:")


def peak_rss_mb(pid: int | str) -> float:
    """The most resident memory since the start, or since `reset_peak_rss`."""
    return _status_mb(pid, "VmHWM:")


def reset_peak_rss(pid: int | str) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status_mb(pid: int | str, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the process itself has used, its children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def descriptors(pid: int) -> int:
    """How many files and sockets the process holds open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                yield from map(int, (thread / "children").read_text().split())
