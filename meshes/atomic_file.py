"""A file that is either whole or not there: written under another name, then renamed.

Used by everything in this room that writes. No fsync: outputs become durable when their folder is
promoted, and a half-done attempt is swept anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give the name to write to; on success it becomes `path`, on any failure it is removed."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
