"""The routes for existing jobs: status, list, cancel, delete. submissions.py makes new ones.

Everything that may block (the disk, ffmpeg) runs in a thread; the event loop only reads memory.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.app_state import AppState, state_of
from api.hosts import is_on_this_machine
from api.notifier import wait_until
from api.openapi import CANCELLED, DELETED, JOB, JOB_LIST, answers
from api.query import CheckedRoute
from api.responses import JsonResponse, has_already
from api.schemas import Cancelled, Deleted, JobList
from errors import (
    AlreadyFinished,
    InvalidParameter,
    JobExpired,
    JobNotFound,
    ListingDisabled,
    OriginNotAllowed,
    PreconditionFailed,
    StorageUnavailable,
)
from job.state import Job, JobStatus

router = APIRouter(tags=["jobs"], route_class=CheckedRoute)

LONGEST_WAIT_S = 55.0
"""Below the 60 s after which most proxies time out."""
WAIT = {
    "name": "wait",
    "in": "query",
    "description": f"Hold the reply until the job has ended, up to {LONGEST_WAIT_S:.0f} seconds.",
    "schema": {"type": "number", "minimum": 0, "default": 0},
}
"""Parsed here: as a Query it would add 10 us to every poll, a tenth of the whole reply."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)

_STATUS = f"({'|'.join(status.value for status in JobStatus)})"
_STATUSES = re.compile(f"^( *{_STATUS}( *, *{_STATUS})* *)?$")
_CURSOR = re.compile("^[0-9]{0,17}$")
STATUS = Query(
    description="Only these, with commas between.",
    json_schema_extra={"pattern": _STATUSES.pattern},
)
CURSOR = Query(
    description="`next_cursor` of the page before.", json_schema_extra={"pattern": _CURSOR.pattern}
)
"""The patterns are checked here too: pydantic's message would show them, and no list of names."""


@router.get(
    "/jobs/{job_id}",
    summary="The status of a job",
    responses={
        **JOB,
        **answers(
            JobNotFound, JobExpired, PreconditionFailed, InvalidParameter, StorageUnavailable
        ),
    },
    openapi_extra={"parameters": [WAIT]},
)
async def get_job(job_id: str, request: Request) -> Response:
    """The whole state; while the job runs its progress, once it is finished its files."""
    state = state_of(request)
    wait_s = _wait_s(request) if request.scope["query_string"] else 0.0
    job = await (_ended(state, job_id, wait_s) if wait_s else state.find(job_id))
    body, headers = state.view.body(job)
    if has_already(request.scope, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return JsonResponse(body, headers=headers)


@router.get(
    "/jobs",
    summary="The jobs of this server, newest first",
    responses={**JOB_LIST, **answers(ListingDisabled, InvalidParameter, StorageUnavailable)},
)
async def list_jobs(
    request: Request,
    status: Annotated[str, STATUS] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str, CURSOR] = "",
) -> Response:
    """Without an API key only the server's own machine may list jobs: their ids are secret."""
    state = state_of(request)
    if not state.settings.api_keys and not is_on_this_machine(request, state.settings):
        raise ListingDisabled("The list of jobs is not shown to other machines or through a proxy.")
    wanted = _statuses(status)
    before = _cursor(cursor)

    def read() -> JobList:
        ids, following = state.store.page(wanted, limit, before)
        shown = []
        for job_id in ids:
            with suppress(JobNotFound, JobExpired):  # deleted while the list is made
                shown.append(state.view.list_entry(state.store.get(job_id)))
        return JobList(jobs=shown, next_cursor=None if following is None else str(following))

    return JsonResponse(await asyncio.to_thread(read), headers={"Cache-Control": "no-store"})


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Stop a job",
    responses={
        **CANCELLED,
        **answers(
            OriginNotAllowed,
            JobNotFound,
            JobExpired,
            AlreadyFinished,
            InvalidParameter,
            StorageUnavailable,
        ),
    },
)
async def cancel_job(job_id: str, request: Request) -> Response:
    """A queued job is cancelled at once (200), a running one at its next step (202)."""
    state = state_of(request)
    await state.find(job_id)
    async with state.fetcher.stopped(job_id):
        job = await asyncio.to_thread(state.worker.cancel, job_id)
    if job.status is JobStatus.RUNNING:
        body = Cancelled(job_id=job_id, status="running", cancel_requested=True)
        return JsonResponse(body, 202)
    return JsonResponse(Cancelled(job_id=job_id, status=job.status.value))


@router.delete(
    "/jobs/{job_id}",
    summary="Delete a job and its files",
    responses={
        **DELETED,
        **answers(
            OriginNotAllowed,
            JobNotFound,
            JobExpired,
            PreconditionFailed,
            InvalidParameter,
            StorageUnavailable,
        ),
    },
)
async def delete_job(job_id: str, request: Request) -> Response:
    """In any state; a job that runs is cancelled first. Downloads of its files continue."""
    state = state_of(request)
    job = await state.find(job_id)
    has_already(request.scope, state.view.body(job)[1]["ETag"])  # raises PreconditionFailed
    async with state.fetcher.stopped(job_id):
        await asyncio.to_thread(state.worker.delete, job_id)
    state.sweep_soon.set()
    return JsonResponse(Deleted(status="deleted", job_id=job_id))


# --- waiting and listing


def _wait_s(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    if not _NUMBER.fullmatch(text) or float(text) < 0.0:
        raise InvalidParameter("wait must be a number of seconds, at least 0.", field="wait")
    return float(text)


async def _ended(state: AppState, job_id: str, wait_s: float) -> Job:
    """The job once it has ended, or its state when the time is over."""
    deadline = asyncio.get_running_loop().time() + min(wait_s, LONGEST_WAIT_S)
    with state.changes.watch(job_id) as changed:
        while True:
            changed.clear()
            job = await state.find(job_id)
            if job.status.is_terminal or state.draining:
                return job
            if not await wait_until(changed, deadline):
                return job


def _statuses(text: str) -> frozenset[JobStatus]:
    if not _STATUSES.fullmatch(text):
        names = [status.value for status in JobStatus]
        raise InvalidParameter(
            f"status must be among {', '.join(names)}.", field="status", allowed=names
        )
    found = (name.strip() for name in text.split(","))
    return frozenset(JobStatus(name) for name in found if name) or frozenset(JobStatus)


def _cursor(text: str) -> int | None:
    if not _CURSOR.fullmatch(text):
        raise InvalidParameter("cursor must be the next_cursor of a page.", field="cursor")
    return int(text) if text else None
