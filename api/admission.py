"""How a job is accepted: a place in the queue and a staging folder, held until the one commit.

Both are reserved before the body is read and released in any case, unless the job was committed.
The commit runs in a thread that nothing can cancel, not even a server that stops: after it the job
survives a crash.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from api.app_state import AppState
from api.upload_places import UploadPlace
from errors import Draining, InsufficientStorage, QueueFull, StorageUnavailable, is_disk_full
from intake.inspect import ClipFacts
from job.folder import JobsFolder, Staging
from job.options import JobOptions
from job.state import Job, JobStatus

log = logging.getLogger(__name__)


class Admission:
    """One job that is being accepted: a reserved place, and a staging folder once it is used."""

    def __init__(self, state: AppState, place: UploadPlace) -> None:
        self._state = state
        self.place = place
        self._staging: Staging | None = None
        self.committing = False

    @property
    def staging(self) -> Staging:
        """The folder in .staging; created at the first use. Raises OSError."""
        if self._staging is None:
            self._staging = self._state.store.stage()
        return self._staging

    async def commit(
        self,
        options: JobOptions,
        video: ClipFacts | None,
        *,
        retry_of: str | None = None,
        idempotency: dict[str, str] | None,
    ) -> Job:
        """Store the job and put it in the queue; without `video`, begin to fetch it."""

        def make(job_id: str, sequence: int, now: datetime) -> Job:
            return Job(
                job_id=job_id,
                sequence=sequence,
                status=JobStatus.QUEUED,
                pipeline=self._state.choice.name,
                options=options,
                created_at=now,
                input=video,
                waiting_for_input=video is None,
                retry_of=retry_of,
                idempotency=idempotency,
                disk_bytes=video.bytes if video else 0,
            )

        staging = self.staging
        self.committing = True
        storing = asyncio.ensure_future(asyncio.to_thread(self._commit, staging, make))
        try:
            job = await asyncio.shield(storing)
        except asyncio.CancelledError:  # the server stops; the job is stored, so the reply is 202
            job = await storing
        if job.waiting_for_input:
            self._state.fetcher.begin(job.job_id)
        return job

    def _commit(self, staging: Staging, make: Callable[[str, int, datetime], Job]) -> Job:
        state = self._state
        try:
            job = state.store.accept(staging, make)
        except BaseException:
            self.committing = False  # so `admission` releases what it reserved
            raise
        staging.discard()
        if not job.waiting_for_input:
            state.worker.queue.submit(job.job_id)
        log.info("job %s accepted: mode %s", job.job_id, job.options.mode)
        return job

    def has_lost_its_folder(self) -> bool:
        """Blocking. True if JOBS_DIR was gone meanwhile: it may be back, or be another folder."""
        return self._staging is not None and not os.path.isdir(self._staging.folder)

    async def discard(self) -> None:
        """Remove the staging folder."""
        if self._staging is not None:
            # shielded: a request that is cancelled must still clean up
            await asyncio.shield(asyncio.to_thread(self._staging.discard))


@asynccontextmanager
async def admission(
    state: AppState, peer: str, expected_bytes: int, *, new: bool
) -> AsyncIterator[Admission]:
    """The checks before the body is read; what they reserve is released at the end.

    A request that only repeats another (`new` is False) takes no place in the queue. Raises
    TooManyUploads, QueueFull, Draining, StorageUnavailable, InsufficientStorage; an OSError inside
    becomes one of ours.
    """
    with state.uploads.take(peer) as place:
        if new:
            try:
                state.worker.queue.reserve()
            except (QueueFull, Draining) as refusal:
                refusal.facts["retry_after"] = _retry_after_s(state)
                raise
        admitted = Admission(state, place)
        try:
            free = await asyncio.to_thread(_checked_free_bytes, state.folder)
            with state.reserved_bytes(expected_bytes, free):
                yield admitted
        except OSError as exc:
            if is_disk_full(exc):
                raise InsufficientStorage("The server's disk is full.") from exc
            if await asyncio.to_thread(admitted.has_lost_its_folder):
                raise StorageUnavailable("JOBS_DIR was removed or replaced meanwhile.") from exc
            raise await state.from_os_error(exc) from exc
        finally:
            if not admitted.committing:
                if new:
                    state.worker.queue.release()
                await admitted.discard()


def _checked_free_bytes(folder: JobsFolder) -> int:
    """Blocking. Raises StorageUnavailable, OSError."""
    folder.check()
    return folder.free_bytes()


def _retry_after_s(state: AppState) -> int:
    """Seconds until a place in the queue is probably free."""
    running = (job for job in state.store.live() if job.status is JobStatus.RUNNING)
    left_s = [seconds for job in running if (seconds := state.worker.eta_s(job)) is not None]
    return min(600, max(1, int(min(left_s, default=10.0)) + 1))
