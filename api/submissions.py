"""The routes that make jobs: POST /jobs with a video or its address, and a retry of another job.

The checks have the order of the contract. A job is stored only after all of them have passed, and
a 202 is a promise (see admission.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.admission import Admission, admission
from api.app_state import AppState, state_of
from api.idempotency import claimed
from api.job_view import poll_after
from api.modes import parse_options
from api.multipart import Received
from api.openapi import RETRY_ROUTE, SUBMIT_ROUTE
from api.query import CheckedRoute
from api.request_body import check_head, json_options, receive
from api.responses import JsonResponse
from api.schemas import Accepted
from api.upload_places import peer_of
from errors import (
    BothInputs,
    JobExpired,
    JobNotFinished,
    MissingInput,
    ModeUnavailable,
    UrlNotAllowed,
)
from intake.glb import MAX_MESH_BYTES, check_glb
from intake.inspect import ClipFacts, inspect
from intake.names import shown_name
from intake.url_guard import check_url
from job import durable
from job.folder import Staging
from job.options import REQUEST_FIELDS, RETRY_FIELDS, JobOptions, check_names
from job.state import Job
from video.sampling import FrameRequest

router = APIRouter(tags=["jobs"], route_class=CheckedRoute)

UPLOAD_NAMES = ("file", "mesh", *REQUEST_FIELDS)


@router.post("/jobs", summary="Send a video, get a job", **SUBMIT_ROUTE)
async def create_job(request: Request) -> Response:
    """The reply comes once the video is on disk and readable; the mesh is made later.

    Poll `GET /jobs/{job_id}` (`?wait=55` holds its reply until the job ends), or follow its events.
    """
    state = state_of(request)
    limits = _file_limits(state)
    media_type, expected_bytes = check_head(request.headers, limits)
    async with (
        claimed(state, request.headers) as claim,
        admission(state, peer_of(request), expected_bytes, new=claim.job is None) as admitted,
    ):
        received = await receive(
            request,
            admitted.place,
            media_type,
            limits,
            {"file": admitted.staging.input, "mesh": admitted.staging.mesh},
            lambda name: _check_field(state, name),
            with_hash=claim.key is not None,
        )
        hashes = [file.sha256 for _, file in sorted(received.files.items())]
        mark = claim.mark(received.fields, *hashes)
        if claim.job is not None:
            return _accepted(state, claim.job, replayed=True)
        options = _checked_options(state, received)
        video = await _input_facts(admitted, received, options, state.choice.name)
        job = await admitted.commit(options, video, idempotency=mark)
    return _accepted(state, job)


@router.post("/jobs/{job_id}/retry", summary="Run a job again", **RETRY_ROUTE)
async def retry_job(job_id: str, request: Request) -> Response:
    """A new job from the stored video, with other options if the JSON body names some."""
    state = state_of(request)
    old = await state.find(job_id)
    if not old.status.is_terminal:
        raise JobNotFinished(
            f"This job is {old.status.value}; it can be tried again once it has ended.",
            job_status=old.status.value,
        )
    expected_bytes = old.input.bytes if old.input else 0
    async with (
        claimed(state, request.headers) as claim,
        admission(state, peer_of(request), expected_bytes, new=claim.job is None) as admitted,
    ):
        changes = await json_options(request, admitted.place, RETRY_FIELDS)
        options = parse_options(changes, state.choice, base=old.options)
        options = _same_pictures(old, changes, options)
        mark = claim.mark("retry", job_id, changes)
        if claim.job is not None:
            return _accepted(state, claim.job, replayed=True)
        folder, pipeline = state.folder.job_dir(job_id), state.choice.name
        video = await asyncio.to_thread(
            _stored_input, folder, admitted.staging, old, options, pipeline
        )
        job = await admitted.commit(options, video, retry_of=job_id, idempotency=mark)
    return _accepted(state, job)


def _accepted(state: AppState, job: Job, *, replayed: bool = False) -> Response:
    """202 with exactly two keys."""
    headers = {
        "Location": f"{state.settings.root_path}/jobs/{job.job_id}",
        "Retry-After": "2" if replayed else poll_after(state.worker.eta_s(job)),
    }
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JsonResponse(Accepted(job_id=job.job_id, status="queued"), 202, headers)


def _file_limits(state: AppState) -> dict[str, int]:
    """The files that a body may hold here, and their largest sizes in bytes."""
    limits = {"file": state.settings.max_upload_size}
    if state.choice.name == "actionmesh":
        limits["mesh"] = MAX_MESH_BYTES
    return limits


def _check_field(state: AppState, name: str) -> None:
    if name == "mesh" and state.choice.name != "actionmesh":
        raise ModeUnavailable(
            f"The {state.choice.name} pipeline here cannot animate a mesh of your own.",
            hint="Leave `mesh` out.",
        )
    check_names([name], UPLOAD_NAMES)


def _checked_options(state: AppState, received: Received) -> JobOptions:
    """The options; checks that there is exactly one video. Raises what POST /jobs documents."""
    options = parse_options(received.fields, state.choice, has_mesh="mesh" in received.files)
    has_file = "file" in received.files
    if has_file and options.video_url:
        raise BothInputs("There are a `file` and a `video_url`.")
    if not has_file and not options.video_url:
        raise MissingInput("There is neither a `file` nor a `video_url`.")
    settings = state.settings
    if options.video_url and not settings.allow_video_url:
        raise UrlNotAllowed("This server fetches no videos.", hint="Send the file itself.")
    for url in filter(None, (options.video_url, options.webhook_url)):
        check_url(url, allow_private=settings.allow_private_urls)
    return options


async def _input_facts(
    admitted: Admission, received: Received, options: JobOptions, pipeline: str
) -> ClipFacts | None:
    """The facts of the video; None if it must be downloaded first."""
    if options.mesh:
        await asyncio.to_thread(check_glb, admitted.staging.mesh)
    video = received.files.get("file")
    if video is None:
        return None
    request = options.frame_request(pipeline)
    return await asyncio.to_thread(_probe, admitted.staging.input, video.filename, request)


def _probe(path: Path, filename: str | None, request: FrameRequest) -> ClipFacts:
    """Blocking: find the container format and which frames the job takes."""
    return inspect(path, request, filename=filename or shown_name(""))


def _same_pictures(old: Job, changes: Mapping[str, Any], options: JobOptions) -> JobOptions:
    """Without a new `start`, a subject is chosen in the pictures that the old job used.

    Those may be from other seconds than it was asked for, if those showed no subject.
    """
    used = old.result.start if old.result else None
    if options.subject_choice is None or used is None or changes.get("start") not in (None, ""):
        return options
    return options.model_copy(update={"start": used})


def _stored_input(
    folder: Path, staging: Staging, old: Job, options: JobOptions, pipeline: str
) -> ClipFacts | None:
    """Blocking: link the old job's files; None if the video must be downloaded again."""
    try:
        if options.mesh:
            durable.link(folder / staging.mesh.name, staging.mesh)
        durable.link(folder / staging.input.name, staging.input)
    except FileNotFoundError:
        if options.video_url and not options.mesh:
            return None
        raise JobExpired("The video of this job was not kept.") from None
    request = options.frame_request(pipeline)
    if old.input and request == old.options.frame_request(old.pipeline):
        return old.input
    return _probe(staging.input, old.input.filename if old.input else None, request)
