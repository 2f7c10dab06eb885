"""Server-sent events: a job's whole state at once, and again after every change until the end.

Each event is the body of GET /jobs/{id}, so a client that reconnects needs no history, and a client
that cannot stream can poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from api.app_state import AppState, state_of
from api.notifier import wait_until
from api.openapi import EVENTS, answers
from api.query import CheckedRoute
from errors import InvalidParameter, JobExpired, JobNotFound, StorageUnavailable
from job.state import Job

router = APIRouter(tags=["jobs"], route_class=CheckedRoute)

SHORTEST_GAP_S = 0.25
"""At most four events a second."""
HEARTBEAT_S = 15.0
"""How often a comment is sent, for proxies that close silent connections."""
LAST_EVENT = "end"
_RETRY_MS = 2000


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses={**EVENTS, **answers(JobNotFound, JobExpired, InvalidParameter, StorageUnavailable)},
)
async def follow_job(job_id: str, request: Request) -> Response:
    """Events named `progress`, and one named `done` when the job has ended.

    An EventSource that reconnects after `done` gets 204, which stops it.
    """
    state = state_of(request)
    job = await state.find(job_id)
    if job.status.is_terminal and request.headers.get("last-event-id") == LAST_EVENT:
        return Response(status_code=204)
    return StreamingResponse(
        _events(state, job_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"},
    )


async def _events(state: AppState, job_id: str) -> AsyncIterator[bytes]:
    """The stream. Ends with the job, with its deletion, or with the server."""
    clock = asyncio.get_running_loop().time
    yield b"retry: %d\n\n" % _RETRY_MS
    sent, sent_at = b"", 0.0
    with state.changes.watch(job_id, with_queue=True) as changed:
        while True:
            changed.clear()
            try:
                job = await state.find(job_id)
            except (JobNotFound, JobExpired):
                return  # deleted: the next request of the client gets 404
            body = state.view.body(job)[0]
            if body != sent:
                sent, sent_at = body, clock()
                yield _event(job, body)
            if job.status.is_terminal or state.draining:
                return
            if await wait_until(changed, clock() + HEARTBEAT_S):
                await asyncio.sleep(max(0.0, sent_at + SHORTEST_GAP_S - clock()))
            else:
                yield b": heartbeat\n\n"


def _event(job: Job, body: bytes) -> bytes:
    """JSON has no line breaks of its own, so one data line holds it."""
    name, number = ("done", LAST_EVENT) if job.status.is_terminal else ("progress", job.revision)
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), str(number).encode(), body)
