"""A disk of a few megabytes that can be filled to the last byte: a tmpfs, so only root can have it.

ENOSPC from a real file system and not from a shim: it comes from write, open, mkdir and fsync as it
would in earnest.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)


class SmallDisk:
    """Mounted while it exists; `unmount` when done. Raises OSError where that is not allowed."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir()
        self.folder = folder
        self._ballast = folder / "ballast"
        self._full = threading.Event()
        self._filler: threading.Thread | None = None
        options = f"size={megabytes}m".encode()
        if _LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options):
            raise OSError(ctypes.get_errno(), "a tmpfs cannot be mounted here")

    def fill(self) -> None:
        """Take every byte that is free, and every one that becomes free, until `relieve`."""
        self._full.set()
        self._take_all()
        self._filler = threading.Thread(target=self._keep_full)
        self._filler.start()

    def relieve(self) -> None:
        """Give it all back."""
        self._full.clear()
        if self._filler is not None:
            self._filler.join()
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Even if somebody still holds a file on it."""
        self.relieve()
        lazily = 2
        _LIBC.umount2(os.fsencode(self.folder), lazily)

    def _keep_full(self) -> None:
        while self._full.is_set():
            self._take_all()
            threading.Event().wait(0.002)

    def _take_all(self) -> None:
        with open(self._ballast, "ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
