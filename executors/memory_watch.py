"""Watches how much memory a child uses, from outside. Used by child_process.py.

RLIMIT_AS and RLIMIT_DATA do not suit ActionMesh: the first counts the address space that CUDA
reserves, both count weights that are mapped from files (measured: 0.5 GB mapped is 0.5 GB of data).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

INTERVAL_S = 0.1
_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")


class MemoryWatch:
    """A thread that calls `on_excess` once if process `pid` uses more than `limit_mb`.

    Call `stop` before the process is reaped: its number may be another's later.
    """

    def __init__(self, pid: int, limit_mb: int, on_excess: Callable[[], None]) -> None:
        self.exceeded = False
        self._pid, self._limit_mb, self._on_excess = pid, limit_mb, on_excess
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            used_mb = own_memory_mb(self._pid)
            if used_mb is None:  # it has ended, or this system does not tell
                return
            if used_mb > self._limit_mb:
                self.exceeded = True
                self._on_excess()
                return


def own_memory_mb(pid: int) -> float | None:
    """Memory that belongs to the process: not mapped files, which are the weights.

    None if it has ended, or on systems that do not tell (only Linux does).
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = [line.split() for line in status.splitlines() if line.startswith(_COUNTED)]
    return sum(int(kilobytes) for _, kilobytes, *_ in found) / 1024 if found else None
