"""Sends a POST to webhook_url when a job has ended: signed, at least once, also after a restart.

Signed as Standard Webhooks says (standardwebhooks.com): HMAC-SHA256 over id, time and body. A mark
in JOBS_DIR/.webhooks is made before the job is accepted and removed when nothing is left to
deliver; after a kill in between, the same id is delivered a second time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import httpx

from errors import JobExpired, JobNotFound, ServiceError
from intake.url_guard import GuardedTransport, check_url
from job.folder import JobsFolder
from job.logs import bound_to_job
from job.state import Job
from job_store import JobStore
from settings import Settings

log = logging.getLogger(__name__)

RETRY_AFTER_S = (5.0, 30.0, 300.0, 1800.0)
"""Waits between tries; there is no try after the last one."""
TIMEOUT_S = 10.0
SLOTS = 4
"""Deliveries at the same time."""


@dataclass(eq=False, repr=False)
class Webhooks:
    """Delivers the final state of each job that has a webhook_url.

    `body` gives the bytes to send: what GET /jobs/{id} would answer. Everything but `changed`
    happens in the event loop.
    """

    store: JobStore
    folder: JobsFolder
    settings: Settings
    body: Callable[[Job], bytes]
    retry_after_s: tuple[float, ...] = RETRY_AFTER_S

    def __post_init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(SLOTS)

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def resume(self) -> None:
        """After a restart: deliver for marked jobs that have ended; unmark deleted ones."""
        for job_id in await asyncio.to_thread(self.folder.webhook_marks):
            try:
                job = await asyncio.to_thread(self.store.get, job_id)
            except (JobNotFound, JobExpired):
                await asyncio.to_thread(self.folder.unmark_webhook, job_id)
            else:
                self.changed(job)

    async def close(self) -> None:
        """Stop; undelivered webhooks stay marked."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def changed(self, job: Job) -> None:
        """For the store's listeners, in whichever thread made the change."""
        if self._loop is None or not (job.options.webhook_url and job.status.is_terminal):
            return
        with contextlib.suppress(RuntimeError):  # if it is closed, the next server finds the mark
            self._loop.call_soon_threadsafe(self._begin, job)

    def _begin(self, job: Job) -> None:
        if job.job_id in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(self._deliver(job))
        self._tasks[job.job_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.job_id, None))

    # --- one delivery

    async def _deliver(self, job: Job) -> None:
        assert job.options.webhook_url
        if not await asyncio.to_thread(self.folder.has_webhook_mark, job.job_id):
            return  # delivered already
        with bound_to_job(job.job_id):
            body = self.body(job)
            for wait_s in (0.0, *self.retry_after_s):
                await asyncio.sleep(wait_s)
                async with self._slots:
                    status = await self._try(job, job.options.webhook_url, body)
                if status is not None and (200 <= status < 300 or status == 410):
                    log.info("webhook delivered: %d", status)
                    break
            else:
                log.warning("webhook not delivered after %d tries", len(self.retry_after_s) + 1)
            await asyncio.to_thread(self.folder.unmark_webhook, job.job_id)

    async def _try(self, job: Job, url: str, body: bytes) -> int | None:
        """The receiver's HTTP status; None if there was no reply."""
        webhook_id = f"{job.job_id}.{job.status.value}"
        private = self.settings.allow_private_urls
        try:
            checked = check_url(url, private)
            # reading the trusted certificates takes tens of milliseconds: not on the event loop
            tls = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
            headers = signed_headers(self.settings.webhook_secret, webhook_id, time.time(), body)
            async with httpx.AsyncClient(
                transport=GuardedTransport(allow_private=private, tls=tls),
                trust_env=False,
                follow_redirects=False,
            ) as client:
                request = client.stream("POST", checked, content=body, headers=headers)
                return await asyncio.wait_for(_status_of(request), TIMEOUT_S)
        except (ServiceError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError,
                asyncio.TimeoutError, UnicodeError) as exc:  # fmt: skip
            log.info("webhook not delivered: %s", type(exc).__name__)
            return None


async def _status_of(request: AbstractAsyncContextManager[httpx.Response]) -> int:
    """Only the status counts; a receiver's body is never read."""
    async with request as response:
        return response.status_code


def signed_headers(secret: str, webhook_id: str, now: float, body: bytes) -> dict[str, str]:
    """The three Standard Webhooks headers; without a secret the signature is left out.

    A secret `whsec_<base64>` is decoded; any other secret is used as it is.
    """
    headers = {
        "content-type": "application/json",
        "user-agent": "actionmesh-worker",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now)),
    }
    if secret:
        signed = f"{webhook_id}.{int(now)}.".encode() + body
        digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        with contextlib.suppress(ValueError):
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()
