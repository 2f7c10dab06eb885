"""A disk of a few megabytes that can be filled completely: a tmpfs, which only root can mount.

ENOSPC comes from a real file system, not from replaced functions: from write, open, mkdir and
fsync.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_READ_ONLY, _REMOUNT, _BIND, _LAZILY = 1, 32, 4096, 2


def _mount(
    source: bytes, folder: Path, kind: bytes | None, flags: int, options: bytes | None
) -> None:
    if _LIBC.mount(source, os.fsencode(folder), kind, ctypes.c_ulong(flags), options):
        raise OSError(ctypes.get_errno(), "a file system cannot be mounted here")


class SmallDisk:
    """Mounted at once; call `unmount` at the end. Raises OSError where mounting is not allowed."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir()
        self.folder = folder
        self._ballast = folder / "ballast"
        self._full = threading.Event()
        self._filler: threading.Thread | None = None
        _mount(b"tmpfs", folder, b"tmpfs", 0, f"size={megabytes}m".encode())

    def cover(self) -> None:
        """Hide the folder behind an empty file system, as if its own were unmounted."""
        _mount(b"tmpfs", self.folder, b"tmpfs", 0, b"size=1m")

    def make_read_only(self) -> None:
        """Mount the folder over itself, read-only: a server's open files stay writable."""
        _mount(os.fsencode(self.folder), self.folder, None, _BIND, None)
        _mount(b"none", self.folder, None, _BIND | _REMOUNT | _READ_ONLY, None)

    def uncover(self) -> None:
        """Remove what `cover` or `make_read_only` mounted."""
        _LIBC.umount2(os.fsencode(self.folder), _LAZILY)

    def fill(self) -> None:
        """Use every free byte, and every byte that becomes free, until `release`."""
        self._full.set()
        self._write_until_full()
        self._filler = threading.Thread(target=self._keep_full)
        self._filler.start()

    def release(self) -> None:
        """Free the space that `fill` used."""
        self._full.clear()
        if self._filler is not None:
            self._filler.join()
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Also while a process has a file on it open."""
        self.release()
        _LIBC.umount2(os.fsencode(self.folder), _LAZILY)

    def _keep_full(self) -> None:
        while self._full.is_set():
            self._write_until_full()
            threading.Event().wait(0.002)

    def _write_until_full(self) -> None:
        with open(self._ballast, "ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
