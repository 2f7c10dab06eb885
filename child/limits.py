"""The limits that this process sets itself, as video/sandbox.py does for ffmpeg. Called by main.py.

With CUDA the parent limits its memory instead (executors/memory_watch.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import time

FILE_MB = 2048
"""Of every file written, Blender's too; 121 meshes of a million triangles make one of 600 MB."""
OPEN_FILES = 1024


def limit_process() -> None:
    """No core dumps: they hold the client's frames, and may fill the disk."""
    _set("RLIMIT_CORE", 0)


def limit_data(megabytes: int) -> None:
    """Limit writable private memory, not address space: threads reserve much more than they use.

    Not with CUDA: see executors/memory_watch.py.
    """
    _set("RLIMIT_DATA", megabytes << 20, keep_hard=True)


def limit_files() -> None:
    """After loading: weights are larger files, and are downloaded over many connections."""
    _set("RLIMIT_FSIZE", FILE_MB << 20)
    _set("RLIMIT_NOFILE", OPEN_FILES)


def limit_cpu(seconds: float) -> None:
    """Let all threads together use so many CPU seconds for each core from now on; 0 is no limit.

    The parent's clock ends a task long before; this holds if the parent is stopped.
    """
    if seconds:
        cores = os.cpu_count() or 1
        _set("RLIMIT_CPU", int(time.process_time() + seconds * cores) + 1, keep_hard=True)


def return_free_memory() -> None:
    """Give what was freed back to the system: glibc keeps it where later arrays lie behind it.

    270 MB after the silhouette of 121 frames, in milliseconds. musl and macOS have no such call.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(name: str, value: int, *, keep_hard: bool = False) -> None:
    """Never above the hard limit. macOS has the names, but not all of the limits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        which = getattr(resource, name)
        _, hard = resource.getrlimit(which)
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (soft, hard if keep_hard else soft))
