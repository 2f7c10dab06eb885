"""A disk that fails for a moment: the n-th call that changes a folder, and some calls after it.

Python's system calls (os.write, os.fsync, os.rename ...) are replaced inside the block, for this
process and one folder. This affects the server's own process only; disk.py tests a job's process
with a really full disk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "link")


class FailingCalls:
    """Counts the calls; `times` of them fail with `error`, beginning with number `first`."""

    def __init__(self, folder: Path, first: int, times: int, error: int) -> None:
        self.made: list[str] = []
        self._folder = f"{folder.resolve()}{os.sep}"
        self._fails = range(first, first + times)
        self._error = error
        self._lock = threading.Lock()

    @property
    def failed(self) -> list[str]:
        """The calls that failed, in order."""
        return self.made[self._fails.start : self._fails.stop]

    def count(self, name: str, where: object, flags: int) -> None:
        """Raises OSError if this call must fail. Opening a file for reading is not counted."""
        if name == "open" and not flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            return
        path = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else str(where)
        if not path.startswith(self._folder):
            return
        with self._lock:
            number = len(self.made)
            self.made.append(f"{name} {path.removeprefix(self._folder)}")
        if number in self._fails:
            raise OSError(self._error, os.strerror(self._error))


@contextmanager
def failing_calls(folder: Path, first: int, times: int, error: int) -> Iterator[FailingCalls]:
    """See FailingCalls. It affects every thread of this process."""
    calls = FailingCalls(folder, first, times, error)
    real = {name: getattr(os, name) for name in CALLS}

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(where: Any, *rest: Any, **named: Any) -> Any:
            calls.count(name, where, rest[0] if name == "open" else 0)
            return call(where, *rest, **named)

        return replacement

    for name, call in real.items():
        setattr(os, name, counted(name, call))
    try:
        yield calls
    finally:
        for name, call in real.items():
            setattr(os, name, call)
