"""Deletes the trash, jobs older than JOB_TTL_HOURS, and the oldest ones over JOBS_MAX_GB.

Never a job that is queued or running. `sweep` blocks (it reads and removes files): for a thread.
After the system clock has jumped by a day, the age of jobs is uncertain: nothing is deleted for an
hour, so that a wrong clock can be noticed and corrected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
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
PAUSE_AFTER_JUMP_S = 3600.0
"""How long nothing is deleted after a jump, unless the clock jumps back."""
REMEMBER_EXPIRED = timedelta(days=30)
"""How long an expired id answers 410 rather than 404."""


@dataclass(eq=False, repr=False)
class Retention:
    """Sweeps one store. Jumps of `clock`, the system clock, are found by `monotonic`."""

    store: JobStore
    folder: JobsFolder
    settings: Settings
    clock: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._trusted_at = self.monotonic()
        self._last = (self.clock(), self._trusted_at)
        self._clock_error = timedelta()  # the sum of its jumps since it was last trusted

    def sweep(self) -> list[str]:
        """Delete what may be deleted; returns the ids of the jobs that expired. Raises OSError."""
        self.folder.require_present()  # never another server's folder
        self.folder.empty_trash()
        now = self.clock()
        if not self._is_trusted(now):
            return []
        expired = []
        for job in self._due(now):
            try:
                self.store.delete(job.job_id, expired=True)
            except (ServiceError, OSError) as exc:
                log.warning("job %s could not be removed: %s", job.job_id, type(exc).__name__)
            else:
                expired.append(job.job_id)
        if expired:
            log.info("%d jobs expired", len(expired))
            self.folder.empty_trash()
        self.folder.forget_expired((now - REMEMBER_EXPIRED).timestamp())
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
        """False after a jump, until the clock jumps back or the pause is over."""
        (last_now, last_at), at = self._last, self.monotonic()
        self._last = (now, at)
        jump = (now - last_now) - timedelta(seconds=at - last_at)
        if abs(jump) > JUMP:
            log.error(
                "the clock jumped by %s: nothing is deleted for %.0f s", jump, PAUSE_AFTER_JUMP_S
            )
            self._clock_error += jump
            self._trusted_at = at + PAUSE_AFTER_JUMP_S
        if at >= self._trusted_at or abs(self._clock_error) <= JUMP:
            self._clock_error = timedelta()
        return not self._clock_error

    def _due(self, now: datetime) -> list[JobSummary]:
        oldest_first = sorted(self.store.ended(), key=lambda job: job.finished_at)
        due = []
        if self.settings.job_ttl_hours:
            limit = now - timedelta(hours=self.settings.job_ttl_hours)
            due = [job for job in oldest_first if job.finished_at < limit]
        if self.settings.jobs_max_gb:
            kept = oldest_first[len(due) :]
            excess = sum(job.disk_bytes for job in kept) - self.settings.jobs_max_gb * GB
            for job in kept:
                if excess <= 0:
                    break
                due.append(job)
                excess -= job.disk_bytes
        return due


def expires_at(finished_at: datetime, settings: Settings) -> datetime | None:
    """When a job that ended then may be deleted; None if it is kept."""
    if not settings.job_ttl_hours:
        return None
    return finished_at + timedelta(hours=settings.job_ttl_hours)
