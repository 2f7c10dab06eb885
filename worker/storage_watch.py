"""Notices within seconds that JOBS_DIR is gone or cannot be written, and takes it when it is back.

Runs in the event loop beside retention; what reads the disk runs in a thread. /health asks
`problem`, which reads memory only: a disk that hangs must not delay it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from errors import StorageUnavailable
from job.folder import JobsFolder, JobsFolderError
from job_store import JobStore
from worker.loop import Worker

log = logging.getLogger(__name__)

CHECK_EVERY_S = 2.0
LONGEST_CHECK_S = 15.0
"""A check that takes longer waits for a disk that does not answer."""


@dataclass(eq=False, repr=False)
class StorageWatch:
    store: JobStore
    folder: JobsFolder
    worker: Worker

    def __post_init__(self) -> None:
        self._problem: str | None = None
        self._checking_since: float | None = None

    @property
    def problem(self) -> str | None:
        """Why JOBS_DIR cannot be used, as of the last check; None if it can."""
        since = self._checking_since
        if since is not None and time.monotonic() - since > LONGEST_CHECK_S:
            return "the disk of JOBS_DIR does not answer"
        return self._problem

    async def run(self) -> None:
        """Check every two seconds, until cancelled."""
        while True:
            self._checking_since = time.monotonic()  # here: every thread may wait for the disk
            await asyncio.to_thread(self.check)
            await asyncio.sleep(CHECK_EVERY_S)

    def check(self) -> None:
        """Look, and take the folder again if it is another one than before."""
        found = self._look()
        if found != self._problem:
            if found is None:
                log.info("JOBS_DIR can be used again")
            else:
                log.error("no job can be stored: %s", found)
        self._problem, self._checking_since = found, None

    def _look(self) -> str | None:
        try:
            if self.worker.recovered.is_set() and not self.folder.is_complete():
                self.worker.run_found(self.store.reopen())
            self.folder.check()
            self.folder.empty_staging()
        except StorageUnavailable as exc:
            return exc.message
        except (JobsFolderError, OSError) as exc:
            return str(exc)
        return None
