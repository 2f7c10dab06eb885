"""Downloads the video of jobs that came with a video_url, before they enter the queue.

Downloads run in the event loop, several at a time, so that a slow host never blocks the worker's
one thread. intake/url_guard.py decides which addresses are allowed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from errors import (
    JobNotFound,
    ServiceError,
    UnsupportedMediaType,
    UploadTooLarge,
    UrlFetchFailed,
    VideoUnreadable,
    from_os_error,
)
from intake.inspect import ClipFacts, inspect
from intake.names import shown_name
from intake.url_guard import fetch
from job.folder import JobsFolder
from job.logs import bound_to_job
from job.state import Job, JobStatus
from job.task import Progress
from job_store import JobStore
from settings import Settings
from worker.attempt import DISK_PAUSE_S
from worker.loop import Worker

log = logging.getLogger(__name__)

SLOTS = 4
TOTAL_S = 300.0
"""A download that takes longer fails."""
REPORT_EVERY_S = 0.5
WRITE_TRIES = 3
"""Of a download whose writes fail although JOBS_DIR can be used."""

_AS_JOB_ERROR = {UploadTooLarge.code: UrlFetchFailed, UnsupportedMediaType.code: VideoUnreadable}


@dataclass(eq=False, repr=False)
class Fetcher:
    """Downloads the input of accepted jobs, then puts them in the worker's queue."""

    store: JobStore
    folder: JobsFolder
    worker: Worker
    settings: Settings

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(SLOTS)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, job_id: str, *, reserved: bool = True) -> None:
        """Start the download in the background; `reserved` as in `JobQueue.submit`."""
        task = asyncio.get_running_loop().create_task(self._run(job_id, reserved))
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    @asynccontextmanager
    async def stopped(self, job_id: str) -> AsyncIterator[None]:
        """The download is stopped inside; it starts again if the body raises OSError."""
        task = self._tasks.get(job_id)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        try:
            yield
        except OSError:
            if task is not None:
                self.begin(job_id, reserved=False)
            raise

    async def close(self) -> None:
        """Stop all downloads; their jobs stay queued and are fetched after a restart."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job_id: str, reserved: bool) -> None:
        part = self.folder.job_dir(job_id) / "input.part"
        submitted = False
        try:
            with bound_to_job(job_id):
                submitted = await self._until_stored(job_id, part, reserved)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if reserved and not submitted:
                self.worker.queue.release()

    async def _until_stored(self, job_id: str, part: Path, reserved: bool) -> bool:
        """True once the job is in the queue. While JOBS_DIR cannot be used, it is tried again.

        A failed write counts only if JOBS_DIR can be used afterwards: it may have been gone.
        """
        failures = 0
        while True:
            async with self._slots:
                job = self.store.peek(job_id)
                if job is None or not job.waiting_for_input:
                    return False
                try:
                    return await self._fetch(job, part, reserved)
                except OSError as exc:
                    log.error("a download cannot be stored: %s", exc.strerror)
                    failures += await asyncio.to_thread(self.folder.is_usable)
                    if failures >= WRITE_TRIES and await self._has_failed(job, from_os_error(exc)):
                        return False
            await asyncio.sleep(DISK_PAUSE_S)

    async def _has_failed(self, job: Job, error: ServiceError) -> bool:
        """Store the failure; False if that cannot be stored now."""
        log.info("the video could not be fetched: %s", error.code)
        now = self.store.peek(job.job_id)
        try:
            if now is not None and now.status is JobStatus.QUEUED:
                with suppress(JobNotFound):  # deleted meanwhile
                    await asyncio.to_thread(self.store.fail, job.job_id, error)
        except OSError as exc:
            log.error("the failure cannot be stored: %s", exc.strerror)
            return False
        return True

    async def _fetch(self, job: Job, part: Path, reserved: bool) -> bool:
        """True once the job is in the queue. Raises OSError if its end cannot be stored."""
        assert job.options.video_url
        report = self._reporter(job.job_id)
        try:
            await report(0, None)
            await fetch(
                job.options.video_url,
                part,
                limit=self.settings.max_upload_size,
                total_s=TOTAL_S,
                allow_private=self.settings.allow_private_urls,
                on_progress=report,
            )
            facts = await asyncio.to_thread(self._store_input, job, part)
            await asyncio.to_thread(
                self.store.amend, job.job_id, input=facts, waiting_for_input=False, progress=None
            )
        except JobNotFound:
            return False  # deleted meanwhile
        except ServiceError as exc:
            usable = await asyncio.to_thread(self.folder.is_usable)
            if not usable or not await self._has_failed(job, _as_job_error(exc)):
                raise OSError(errno.EIO, "JOBS_DIR cannot be used") from exc
            return False
        self.worker.queue.submit(job.job_id, reserved=reserved)
        log.info("fetched %d bytes", facts.bytes)
        return True

    def _store_input(self, job: Job, part: Path) -> ClipFacts:
        """Blocking: probe the file and move it to its final path."""
        name = shown_name(unquote(urlsplit(job.options.video_url or "").path))
        facts = inspect(part, job.options.frame_request(job.pipeline), filename=name)
        os.replace(part, part.with_name("input"))
        return facts

    def _reporter(self, job_id: str) -> Callable[[int, int | None], Awaitable[None]]:
        last = -REPORT_EVERY_S

        async def report(done_bytes: int, total_bytes: int | None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= REPORT_EVERY_S:
                last = now
                fraction = done_bytes / total_bytes if total_bytes else 0.0
                message = f"Fetching the video ({done_bytes / 1e6:.1f} MB)"
                progress = Progress("fetching", done_bytes, total_bytes or 0, fraction, message)
                await asyncio.to_thread(self.store.report, job_id, progress)

        return report


def _as_job_error(error: ServiceError) -> ServiceError:
    """The errors of an upload, as errors of a job that was accepted before."""
    kind = _AS_JOB_ERROR.get(error.code)
    return kind(error.message, hint=error.hint, **error.facts) if kind else error
