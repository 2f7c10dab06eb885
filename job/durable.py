"""Writes that survive a crash: temporary file, fsync, rename, fsync of the folder.

An fsync that fails is never tried again (the kernel may have dropped the pages): the error is
raised, and the request or job fails.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from job import failpoint


def write(path: Path, content: bytes, *, fsync: bool = True) -> None:
    """Replace the file at `path`; after an OSError the old file is unchanged."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if fsync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        failpoint.reach(f"write:{path.name}:before_rename")
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    if fsync:
        fsync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename, and make the rename itself durable in both folders."""
    os.rename(source, target)
    fsync_folder(target.parent)
    if source.parent != target.parent:
        fsync_folder(source.parent)


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy. Raises FileNotFoundError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    _fsync(folder, os.O_DIRECTORY)


def fsync_file(path: Path) -> None:
    """Make a file's content durable after others have written it."""
    _fsync(path, os.O_NOFOLLOW)


def _fsync(path: Path, flag: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | flag)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
