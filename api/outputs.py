"""The files of a finished job, and those of a running one that are complete.

A name is only looked up in the job's list of files, so no request can build a path. The file is
opened without following links and sent from that descriptor: a download continues even if the job
is deleted.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.app_state import AppState, state_of
from api.file_response import RangeResponse
from api.job_view import ARCHIVE
from api.openapi import answers, raw
from api.query import CheckedRoute
from api.responses import has_already
from errors import (
    InvalidParameter,
    JobExpired,
    JobNotFinished,
    JobNotFound,
    OutputNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StorageUnavailable,
)
from job.folder import JobsFolder
from job.state import Job, JobStatus

router = APIRouter(tags=["outputs"], route_class=CheckedRoute)

READ_BYTES = 1 << 18
"""Bytes per read, in a thread: reads of 64 KB need twice the CPU per GB."""
SMALL_READ_BYTES = 8192
ALL_READS_BYTES = 2 << 20
"""While many files are sent, reads are smaller: some wait for each client that does not read."""
MEDIA_TYPES = {
    ".glb": "model/gltf-binary",
    ".mp4": "video/mp4",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".zip": "application/zip",
    ".usdz": "model/vnd.usdz+zip",
}
_ZIP = MEDIA_TYPES[".zip"]
_OTHER_TYPE = "application/octet-stream"
_NOT_FOR_NGINX = {"if-match", "if-unmodified-since", "if-modified-since"}
"""Conditions that nginx would compare with tags and times of its own."""
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}  # a link, a socket


def _replies(*media_types: str) -> dict[int | str, dict[str, Any]]:
    return {
        **raw("The file.", *media_types),
        **raw("The part named in Range.", *media_types, status=206),
        304: {"description": "The file has the ETag in If-None-Match, or is no newer than asked."},
        **answers(
            JobNotFound,
            OutputNotFound,
            JobNotFinished,
            JobExpired,
            PreconditionFailed,
            RangeNotSatisfiable,
            InvalidParameter,
            StorageUnavailable,
        ),
    }


@dataclass(frozen=True)
class Output:
    """A file to send. `etag` is the quoted sha256; None for one that may still change.

    `saved_as` is the name to save it under, if not the last part of its address; `moves_to` is the
    path of a running job's file once its outputs are published.
    """

    path: Path
    etag: str | None
    saved_as: str | None = None
    moves_to: Path | None = None


@router.get(
    "/outputs/{job_id}/meshes.zip",
    summary="All per-frame meshes",
    responses=_replies(_ZIP),
    response_class=Response,
)
async def get_archive(job_id: str, request: Request) -> Response:
    """A zip with `mesh_000.glb` and so on: the same bytes each time."""
    return await _reply(request, job_id, ARCHIVE)


@router.get(
    "/outputs/{job_id}/{filename}",
    summary="One file",
    responses=_replies(*MEDIA_TYPES.values(), _OTHER_TYPE),
    response_class=Response,
)
async def get_output(job_id: str, filename: str, request: Request) -> Response:
    """Any name in the job's `files`; while it runs, any name in its `ready`."""
    return await _reply(request, job_id, filename)


async def _reply(request: Request, job_id: str, name: str) -> Response:
    state = state_of(request)
    job = await state.find(job_id)
    output = _find(state, job, name)
    if not _is_for_nginx(request, output):
        return OutputResponse(output, state.folder)
    assert output.etag is not None
    if has_already(request.scope, output.etag):
        return Response(status_code=304, headers=_headers(output))
    return _accel_redirect(state, job_id, output)


def _is_for_nginx(request: Request, output: Output) -> bool:
    """False for what nginx answers otherwise than we do: HEAD with a Range, and some conditions."""
    return (
        bool(state_of(request).settings.accel_prefix)
        and output.etag is not None
        and request.method == "GET"
        and _NOT_FOR_NGINX.isdisjoint(request.headers)
    )


def _find(state: AppState, job: Job, name: str) -> Output:
    """Raises JobNotFinished, OutputNotFound."""
    folder = state.folder
    published = folder.outputs(job.job_id)
    if job.status is JobStatus.RUNNING and job.progress is not None:
        if name in job.progress.ready:
            path = folder.job_dir(job.job_id) / f"attempt-{job.attempts}" / name
            return Output(path, None, _saved_as(job, name), moves_to=published / name)
    if job.status is not JobStatus.FINISHED or job.result is None:
        raise _no_files(job)
    for file in job.result.files:
        if file.name == name:
            return Output(published / name, f'"{file.sha256}"', _saved_as(job, name))
    raise OutputNotFound("This job has no file of that name.", hint="See `files` of the job.")


def _saved_as(job: Job, name: str) -> str | None:
    return f"{name[:-4]}_{job.job_id[:8]}.zip" if name.endswith(".zip") else None


def _no_files(job: Job) -> JobNotFinished:
    if job.status.is_terminal:
        how = "was cancelled" if job.status is JobStatus.CANCELLED else "failed"
        return JobNotFinished(
            f"This job {how}, so it has no files.",
            hint="POST /jobs/{id}/retry makes a new job of the same input.",
            job_status=job.status.value,
        )
    return JobNotFinished(
        f"This job is {job.status.value}, and this file is not complete yet.",
        job_status=job.status.value,
    )


def _headers(output: Output) -> dict[str, str]:
    # a file name here would override the `download` attribute of the page's links
    saved = output.saved_as
    headers = {
        "Content-Disposition": f'attachment; filename="{saved}"' if saved else "inline",
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
    }
    if output.etag is not None:
        headers["ETag"] = output.etag
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return headers


def _media_type(output: Output) -> str:
    return MEDIA_TYPES.get(output.path.suffix, _OTHER_TYPE)


def _accel_redirect(state: AppState, job_id: str, output: Output) -> Response:
    """nginx sends the file, for a third of the CPU."""
    address = f"{state.settings.accel_prefix}/{job_id}/outputs/{output.path.name}"
    headers = {**_headers(output), "X-Accel-Redirect": address}
    del headers["Accept-Ranges"]  # nginx sets its own
    return Response(headers=headers, media_type=_media_type(output))


class OutputResponse(RangeResponse):
    """The file, after the conditions of the request.

    starlette opens the path that it gets. With the path of an open descriptor it sends that file,
    even if the job is deleted meanwhile.
    """

    _sending: ClassVar[int] = 0

    def __init__(self, output: Output, folder: JobsFolder) -> None:
        super().__init__(output.path, headers=_headers(output), media_type=_media_type(output))
        self._output = output
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises OutputNotFound and PreconditionFailed before anything is sent."""
        descriptor = await asyncio.to_thread(_opened, self._output, self._folder)
        OutputResponse._sending += 1
        try:
            self.path, self.stat_result = f"/proc/self/fd/{descriptor}", os.fstat(descriptor)
            self.set_stat_headers(self.stat_result)
            tag, modified_s = self._output.etag, self.stat_result.st_mtime
            if tag is not None and has_already(scope, tag, modified_s):
                await Response(None, 304, _headers(self._output))(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            OutputResponse._sending -= 1
            os.close(descriptor)

    @property
    def chunk_size(self) -> int:  # type: ignore[override]
        """starlette asks before each read."""
        return max(SMALL_READ_BYTES, min(READ_BYTES, ALL_READS_BYTES // self._sending))


def _opened(output: Output, folder: JobsFolder) -> int:
    """A descriptor of a regular file, links not followed.

    Raises OutputNotFound, and OSError if JOBS_DIR is gone or the file cannot be opened now.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    for path in filter(None, (output.path, output.moves_to)):
        try:
            descriptor = os.open(path, flags)
        except OSError as exc:
            if exc.errno not in _NO_FILE:
                raise
            continue
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    folder.require_present()
    raise OutputNotFound("This file does not exist (any more).")
