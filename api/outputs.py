"""The files of a finished job, and the anchor mesh of one that still runs.

A name is looked up in the job's manifest and nowhere else, so no request can make a path. The file
is opened without following links and sent from that one descriptor: a job deleted meanwhile does
not break a download.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.app_state import AppState, state_of
from api.job_view import ANCHOR, ARCHIVE
from api.openapi import answers
from api.problems import problem
from api.responses import has_already
from errors import JobExpired, JobNotFinished, JobNotFound, OutputNotFound, RangeNotSatisfiable
from job.state import Job, JobStatus

router = APIRouter(tags=["outputs"])

READ_BYTES = 1 << 18
"""So much per hop to a thread: 64 KB cost twice the CPU per GB."""
MEDIA_TYPES = {
    ".glb": "model/gltf-binary",
    ".mp4": "video/mp4",
    ".webp": "image/webp",
    ".zip": "application/zip",
    ".usdz": "model/vnd.usdz+zip",
}
_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE | re.ASCII)
_FILE_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in (*MEDIA_TYPES.values(), "application/octet-stream")
        },
    },
    206: {"description": "The part named in Range."},
    304: {"description": "The file in If-None-Match is the one here."},
    **answers(JobNotFound, OutputNotFound, JobNotFinished, JobExpired, RangeNotSatisfiable),
}


@dataclass(frozen=True)
class Output:
    """A file to send. `etag` is the quoted sha256; None for one that may still change.

    `saved_as` is the name to save it under, where that of its address would not do; `moves_to` is
    where a running job's file goes shortly before the job is finished.
    """

    path: Path
    name: str
    etag: str | None
    saved_as: str | None = None
    moves_to: Path | None = None


@router.get("/outputs/{job_id}/meshes.zip", summary="All per-frame meshes", responses=_FILE_REPLIES)
async def get_archive(job_id: str, request: Request) -> Response:
    """A zip with `mesh_000.glb` and so on: the same bytes each time."""
    return await _reply(request, job_id, ARCHIVE)


@router.get("/outputs/{job_id}/{filename}", summary="One file", responses=_FILE_REPLIES)
async def get_output(job_id: str, filename: str, request: Request) -> Response:
    """Any name in the job's `files`; `anchor.glb` as soon as `preview_mesh` is there."""
    return await _reply(request, job_id, filename)


async def _reply(request: Request, job_id: str, name: str) -> Response:
    state = state_of(request)
    job = await state.find(job_id)
    output = _find(state, job, name)
    if output.etag is not None and has_already(request, output.etag):
        return Response(status_code=304, headers=_headers(output))
    if state.settings.accel_prefix and output.etag is not None:
        return _handed_over(state, job_id, output)
    return FileReply(output)


def _find(state: AppState, job: Job, name: str) -> Output:
    """Raises JobNotFinished, OutputNotFound."""
    folder = state.store.folder
    if job.status is JobStatus.RUNNING and name == ANCHOR:
        if job.progress is not None and job.progress.has_anchor:
            path = folder.job_dir(job.job_id) / f"attempt-{job.attempts}" / ANCHOR
            return Output(path, name, None, moves_to=folder.outputs(job.job_id) / ANCHOR)
    if job.status is not JobStatus.FINISHED or job.result is None:
        raise _no_files(job)
    for file in job.result.files:
        if file.name == name:
            saved_as = f"meshes_{job.job_id[:8]}.zip" if name == ARCHIVE else None
            path = folder.outputs(job.job_id) / file.name
            return Output(path, name, f'"{file.sha256}"', saved_as)
    raise OutputNotFound("This job has no file of that name.", hint="See `files` of the job.")


def _no_files(job: Job) -> JobNotFinished:
    if job.status.is_terminal:
        how = "was cancelled" if job.status is JobStatus.CANCELLED else "failed"
        return JobNotFinished(
            f"This job {how}, so it has no files.",
            hint="POST /jobs/{id}/retry makes a new job of the same input.",
            job_status=job.status.value,
        )
    return JobNotFinished(
        f"This job is {job.status.value}; its files exist once it is finished.",
        job_status=job.status.value,
    )


def _headers(output: Output) -> dict[str, str]:
    # a name here would overrule the one that a link gives, as the page's links do
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


def _media_type(name: str) -> str:
    return MEDIA_TYPES.get(os.path.splitext(name)[1], "application/octet-stream")


def _handed_over(state: AppState, job_id: str, output: Output) -> Response:
    """The reverse proxy sends the file: nine times less CPU than we need."""
    address = f"{state.settings.accel_prefix}/{job_id}/outputs/{output.name}"
    headers = {**_headers(output), "X-Accel-Redirect": address}
    del headers["Accept-Ranges"]  # the proxy's own to say
    return Response(headers=headers, media_type=_media_type(output.name))


class FileReply(Response):
    """Sends one file, or the one range that was asked for. Several ranges get the whole file."""

    def __init__(self, output: Output) -> None:
        super().__init__(headers=_headers(output), media_type=_media_type(output.name))
        self._output = output

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises OutputNotFound before anything is sent, if the file is gone."""
        descriptor = await asyncio.to_thread(_opened, self._output)
        try:
            size = os.fstat(descriptor).st_size
            wanted = self._range(Headers(scope=scope), size)
            if wanted is None:
                error = RangeNotSatisfiable(f"The file has {size} bytes.", bytes=size)
                headers = {"Content-Range": f"bytes */{size}"}
                await problem(error, scope, headers)(scope, receive, send)
                return
            await self._send(scope, send, descriptor, wanted, size)
        finally:
            os.close(descriptor)

    async def _send(
        self, scope: Scope, send: Send, descriptor: int, wanted: range, size: int
    ) -> None:
        self.headers["Content-Length"] = str(len(wanted))
        if len(wanted) != size or self.status_code == 206:
            self.headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        at = wanted.start
        while at < wanted.stop and scope["method"] != "HEAD":
            count = min(READ_BYTES, wanted.stop - at)
            piece = await asyncio.to_thread(os.pread, descriptor, count, at)
            if not piece:
                break  # cut short on disk: the server closes the connection
            at += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _range(self, headers: Headers, size: int) -> range | None:
        """The bytes to send; None if what was asked for lies behind the end (RFC 9110, 14.1.1)."""
        whole = range(size)
        asked = _RANGE.fullmatch(headers.get("range", ""))
        if asked is None or asked[1] == asked[2] == "":
            return whole
        if "if-range" in headers and headers["if-range"] != self._output.etag:
            return whole
        if asked[1] == "":
            first, last = max(0, size - _position(asked[2])), size - 1
        else:
            first = _position(asked[1])
            last = min(_position(asked[2]), size - 1) if asked[2] else size - 1
            if asked[2] and _position(asked[2]) < first:
                return whole
        if first > last or first >= size:
            return None
        self.status_code = 206
        return range(first, last + 1)


def _position(digits: str) -> int:
    """Behind the end of any file if it has more digits than one could need."""
    digits = digits.lstrip("0")
    return int(digits or 0) if len(digits) <= 18 else 10**18


def _opened(output: Output) -> int:
    """A descriptor of a regular file, links not followed."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            descriptor = os.open(output.path, flags)
        except FileNotFoundError:
            if output.moves_to is None:
                raise
            descriptor = os.open(output.moves_to, flags)
    except OSError as exc:
        raise OutputNotFound("This file is not there (any more).") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutputNotFound("This file is not there (any more).")
    return descriptor
