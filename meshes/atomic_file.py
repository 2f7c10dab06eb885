"""Writes a file completely or not at all: under another name, then renamed.

Used by all writers of this package. No fsync here: outputs are made durable when the attempt is
published, and an unfinished attempt is deleted. Only the checkpoint (sequence.py) has its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield the name to write to; it is renamed to `path` on success and removed on failure."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
