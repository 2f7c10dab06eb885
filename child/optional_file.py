"""A file that a job can do without: its failure is a warning of the finished job.

Used by child/exports.py and child/skin_files.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from child.reporter import JobReporter
from errors import Cancelled

log = logging.getLogger(__name__)


@contextmanager
def optional_file(reporter: JobReporter, code: str, message: str) -> Iterator[None]:
    """What fails or is missing inside is a warning and a line in the log.

    Only a cancel and an OSError reach the caller: all files are on the same disk.
    """
    try:
        yield
    except (Cancelled, OSError):
        raise
    except Exception as failure:
        log.exception("%s: %s", code, getattr(failure, "log", ""))
        reporter.warning(code, message)
