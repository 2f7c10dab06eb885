"""What may be deleted, and when: trash, jobs whose time is over, the oldest ones over the quota.

Never a job that is queued or running. `sweep` blocks (it reads and removes files): for a thread.
A clock that has jumped says nothing about age: after a jump of a day nothing is deleted for an
hour, in which a wrong clock is noticed or set right.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from errors import ServiceError
from job.folder import JobsFolder
from job.index import JobSummary
from job.state import utc_now
from job_store import JobStore
from settings import GB, Settings

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 60.0
JUMP = timedelta(days=1)
DISTRUST_S = 3600.0
"""How long nothing is deleted after a jump, unless the clock jumps back."""
REMEMBER_EXPIRED = timedelta(days=30)
"""How long an expired id answers 410 rather than 404."""


class Retention:
    """Sweeps one store. `clock` is the wall's, `monotonic` shows whether it was set."""

    def __init__(
        self,
        store: JobStore,
        folder: JobsFolder,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._last = (clock(), monotonic())
        self._off = timedelta()  # by how much the clock has jumped since it was last trusted
        self._trusted_at = monotonic()

    def sweep(self) -> list[str]:
        """Delete what may go; returns the ids of the jobs that expired."""
        self._folder.empty_trash()
        now = self._clock()
        if not self._is_trusted(now):
            return []
        expired = []
        for entry in self._due(now):
            try:
                self._store.expire(entry.job_id)
            except (ServiceError, OSError) as exc:
                log.warning("job %s could not be removed: %s", entry.job_id, type(exc).__name__)
                continue
            expired.append(entry.job_id)
        if expired:
            log.info("%d jobs expired", len(expired))
            self._folder.empty_trash()
        self._folder.forget_expired((now - REMEMBER_EXPIRED).timestamp())
        return expired

    async def run(self, sweep_soon: asyncio.Event) -> None:
        """Sweep every minute, and soon after `sweep_soon` is set, until cancelled."""
        while True:
            sweep_soon.clear()
            try:
                await asyncio.to_thread(self.sweep)
            except OSError:
                log.exception("the sweep failed; the next one tries again")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(sweep_soon.wait(), SWEEP_EVERY_S)

    def _is_trusted(self, now: datetime) -> bool:
        """False after a jump, until it is undone or its time is over."""
        (wall, before), at = self._last, self._monotonic()
        self._last = (now, at)
        jump = (now - wall) - timedelta(seconds=at - before)
        if abs(jump) > JUMP:
            log.error("the clock jumped by %s: nothing is deleted for %.0f s", jump, DISTRUST_S)
            self._off += jump
            self._trusted_at = at + DISTRUST_S
        if at >= self._trusted_at or abs(self._off) <= JUMP:
            self._off = timedelta()
        return not self._off

    def _due(self, now: datetime) -> list[JobSummary]:
        oldest_first = sorted(self._store.ended(), key=lambda entry: entry.finished_at)
        due = []
        if self._settings.job_ttl_hours:
            limit = now - timedelta(hours=self._settings.job_ttl_hours)
            due = [entry for entry in oldest_first if entry.finished_at < limit]
        if self._settings.jobs_max_gb:
            kept = oldest_first[len(due) :]
            excess = sum(entry.disk_bytes for entry in kept) - self._settings.jobs_max_gb * GB
            for entry in kept:
                if excess <= 0:
                    break
                due.append(entry)
                excess -= entry.disk_bytes
        return due


def expires_at(finished_at: datetime, settings: Settings) -> datetime | None:
    """When a job that ended then may be deleted; None if it is kept."""
    if not settings.job_ttl_hours:
        return None
    return finished_at + timedelta(hours=settings.job_ttl_hours)
