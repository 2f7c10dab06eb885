"""The lock of JOBS_DIR: one server per folder, and whether the folder is still the locked one.

job/folder.py owns one. The lock is an flock on JOBS_DIR/.lock, which also holds the server's pid.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class AlreadyLocked(Exception):
    """Another server has the folder; `holder` is its pid, as text."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class FolderLock:
    """Held from `take` to `close`, also while the folder is renamed or removed."""

    def __init__(self, root: Path) -> None:
        self._path = root / ".lock"
        self._descriptor: int | None = None

    def take(self) -> None:
        """Lock the folder that is there now; no effect if it is the locked one.

        Raises AlreadyLocked or OSError; a lock that was held before is then kept.
        """
        descriptor = os.open(self._path, _FLAGS | os.O_CREAT, 0o600)
        if self._is_ours(os.fstat(descriptor)):
            os.close(descriptor)
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise AlreadyLocked(holder) from None
        held, self._descriptor = self._descriptor, descriptor
        if held is not None:
            os.close(held)
        with contextlib.suppress(OSError):  # only information, and the disk may be full
            os.ftruncate(descriptor, 0)
            _write_pid(descriptor)

    def close(self) -> None:
        """Release it. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """True if the folder at this path is the locked one. Raises OSError."""
        try:
            return self._is_ours(os.lstat(self._path))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def rewrite(self) -> None:
        """Write the pid once more, through the path: raises OSError if the disk takes no writes."""
        descriptor = os.open(self._path, _FLAGS)
        try:
            _write_pid(descriptor)
        finally:
            os.close(descriptor)

    def _is_ours(self, found: os.stat_result) -> bool:
        held = self._descriptor
        return held is not None and os.path.samestat(found, os.fstat(held))


def _write_pid(descriptor: int) -> None:
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
