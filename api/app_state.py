"""What the routes need, in one object: made by main.create_app, kept at `app.state.app_state`.

Changes no job: worker/loop.py and job_store.py do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from starlette.requests import Request

from api.job_view import JobView
from api.metrics import Metrics
from api.notifier import JobChangeNotifier
from api.upload_places import UploadPlaces
from errors import InsufficientStorage, ServerFault, StorageUnavailable, from_os_error
from job.folder import JobsFolder
from job.state import Job
from job_store import JobStore
from pipeline import PipelineChoice
from settings import GB, Settings
from worker.fetching import Fetcher
from worker.loop import Worker
from worker.retention import Retention
from worker.storage_watch import StorageWatch
from worker.webhooks import Webhooks


@dataclass(eq=False, repr=False)
class AppState:
    settings: Settings
    #: from what NVML knew when the server started
    first_choice: PipelineChoice
    store: JobStore
    folder: JobsFolder
    worker: Worker
    fetcher: Fetcher
    draining: bool = False
    #: set once the last server's jobs are in the store
    recovered: asyncio.Event = field(default_factory=asyncio.Event)
    sweep_soon: asyncio.Event = field(default_factory=asyncio.Event)
    #: sha256 of each Idempotency-Key whose request has not been answered yet
    keys_in_progress: set[str] = field(default_factory=set)
    _expected_bytes: int = 0
    _store_is_open: bool = False

    def __post_init__(self) -> None:
        self.uploads = UploadPlaces(self.settings.max_uploads, self.settings.min_upload_rate)
        self.view = JobView(self.settings, self.worker)
        self.changes = JobChangeNotifier()
        self.metrics = Metrics(self.store, self.folder)
        self.webhooks = Webhooks(
            self.store, self.folder, self.settings, lambda job: self.view.body(job)[0]
        )
        self.retention = Retention(self.store, self.folder, self.settings)
        self.storage = StorageWatch(self.store, self.folder, self.worker)

    @property
    def choice(self) -> PipelineChoice:
        """The pipeline, and the smallest GPU that it is on, as soon as the children say so."""
        gpu = self.worker.executor.status.gpu
        return self.first_choice if gpu is None else replace(self.first_choice, gpu=gpu)

    @property
    def receiving(self) -> int:
        """Bodies that arrive now."""
        return len(self.uploads)

    def open_store(self) -> None:
        """Open and lock JOBS_DIR, once. Raises JobsFolderError."""
        if not self._store_is_open:
            self.store.open()
            self._store_is_open = True

    def drain(self) -> None:
        """The server was asked to stop: take no more jobs, end long polls and event streams."""
        self.draining = True
        self.worker.queue.close()
        self.changes.wake_all()

    async def find(self, job_id: str) -> Job:
        """The job, read in a thread if it is not in RAM. Raises JobNotFound, JobExpired."""
        job = self.store.peek(job_id)
        return job if job is not None else await asyncio.to_thread(self.store.get, job_id)

    async def from_os_error(self, exc: OSError) -> ServerFault:
        """The error for a failed read or write: StorageUnavailable if JOBS_DIR is the reason."""
        try:
            await asyncio.to_thread(self.folder.check)
        except StorageUnavailable as found:
            return found
        return from_os_error(exc)

    @contextmanager
    def reserved_bytes(self, expected: int, free: int) -> Iterator[None]:
        """Count `expected` bytes as used while they arrive. Raises InsufficientStorage."""
        needed = expected + self._expected_bytes + int(self.settings.min_free_gb * GB)
        if free < needed:
            raise InsufficientStorage(
                f"The server's disk has {free / GB:.2f} GB left; this upload and the reserve need "
                f"{needed / GB:.2f} GB.",
                free_bytes=free,
                needed_bytes=needed,
            )
        self._expected_bytes += expected
        try:
            yield
        finally:
            self._expected_bytes -= expected


def state_of(request: Request) -> AppState:
    state = request.app.state.app_state
    assert isinstance(state, AppState)
    return state
