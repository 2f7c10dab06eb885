"""All errors, as one tree.

ServiceError                     code, HTTP status, public message, hint, facts (by name)
├─ UserFault                     the request or the input is wrong; logged at INFO, no traceback
│  ├─ request                    MalformedRequest  MissingInput  BothInputs  BadHost  Unauthorized
│  │                             OriginNotAllowed  ListingDisabled  RequestTimeout
│  │                             UploadTooSlow  HeadTooLarge  InvalidParameter
│  │                             ModeUnavailable  IdempotencyInProgress  IdempotencyKeyReused
│  ├─ address                    NotFound  MethodNotAllowed  JobNotFound  JobExpired  OutputNotFound
│  │                             JobNotFinished  AlreadyFinished  PreconditionFailed
│                             RangeNotSatisfiable
│  └─ input                      UploadTooLarge  UnsupportedMediaType  VideoUnreadable
│                                VideoTooShort  NoSubjectFound  UrlNotAllowed  UrlFetchFailed
└─ ServerFault                   the server or the machine failed; traceback in the log only
   ├─ busy                       QueueFull  TooManyUploads  Draining  StorageUnavailable
   │                             InsufficientStorage
   └─ job                        WorkerCrashed  InputCrashesPipeline  TimedOut  GpuOutOfMemory
                                 GpuError  DiskFull  WeightsUnavailable  InternalError

Cancelled                        not an error: ends a job that was asked to stop
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, ClassVar

Fact = str | int | float | list[str]
_WRITTEN = ("code", "message", "hint", "retryable", "facts")
_RESERVED = {"self", *_WRITTEN}


class ServiceError(Exception):
    """A failure with a stable `code`; its message may be shown to anyone, `meaning` is for /docs.

    `facts` are the values in the message (`frames=10, min_frames=16`): they become members of
    the problem document. `hint` says what to do; a class has a default one.
    """

    meaning: ClassVar[str] = ""
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    default_hint: ClassVar[str] = ""
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, **facts: Fact) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.facts: dict[str, Fact] = facts

    def to_dict(self) -> dict[str, Any]:
        """The form that crosses the process boundary and is kept in job.json."""
        return {name: getattr(self, name) for name in _WRITTEN}

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> ServiceError:
        """Rebuild an error from `to_dict()`; an unknown code becomes InternalError."""
        kind = ERRORS_BY_CODE.get(str(record.get("code")), InternalError)
        facts = {k: v for k, v in (record.get("facts") or {}).items() if k not in _RESERVED}
        return kind(str(record.get("message", kind.title)), hint=record.get("hint"), **facts)


class UserFault(ServiceError):
    """The sender can fix this."""

    code = "malformed_request"
    title = "Malformed request"
    status = 400
    default_hint = "See /docs for what a request may hold."


class ServerFault(ServiceError):
    """The sender cannot fix this, except by waiting or by asking for less."""

    retryable = True


# --- user faults: the request


class MalformedRequest(UserFault):
    meaning = "The body or a header cannot be parsed."


class MissingInput(UserFault):
    meaning = "Neither `file` nor `video_url`."
    code, title = "missing_input", "No video in the request"
    default_hint = "Send a multipart field `file`, or a JSON body with `video_url`."


class BothInputs(UserFault):
    meaning = "`file` and `video_url` at once."
    code, title = "both_inputs", "Two videos in one request"
    default_hint = "Send either `file` or `video_url`, one job each."


class BadHost(UserFault):
    meaning = "The Host header names a host that this server does not answer for."
    code, title = "bad_host", "Unknown host"
    default_hint = (
        "Use the server's IP address or, on its own machine, localhost; "
        "or add the name to ALLOWED_HOSTS on the server."
    )


class Unauthorized(UserFault):
    meaning = "API_KEY is set and the request carries no valid key."
    code, title, status = "unauthorized", "A key is needed", 401
    default_hint = "Send `Authorization: Bearer <key>` or `X-API-Key: <key>`."


class OriginNotAllowed(UserFault):
    meaning = "A page of another site tried to change something here."
    code, title, status = "origin_not_allowed", "Origin not allowed", 403
    default_hint = "Add the origin to CORS_ORIGINS."


class ListingDisabled(UserFault):
    meaning = (
        "Without API_KEY only this machine may list jobs, and not through a proxy: others must "
        "know a job's id to see it."
    )
    code, title, status = "listing_disabled", "Listing is disabled", 403
    default_hint = "Set API_KEY on the server, or ask from its own machine, without a proxy."


class RequestTimeout(UserFault):
    meaning = "The body stopped arriving, or took too long in all."
    code, title, status = "request_timeout", "Request timed out", 408
    default_hint = "Send the request again, over a faster connection."
    retryable = True


class UploadTooSlow(UserFault):
    meaning = "The body arrived more slowly than MIN_UPLOAD_RATE."
    code, title, status = "upload_too_slow", "Upload too slow", 408
    default_hint = "Send the request again, over a faster connection."
    retryable = True


class HeadTooLarge(UserFault):
    meaning = "The request line and the headers, or the trailers, are too long or too many."
    code, title, status = "head_too_large", "Request head too large", 431
    default_hint = "Send fewer and shorter headers, and a shorter address."


class InvalidParameter(UserFault):
    meaning = "A field is unknown or its value is out of range."
    code, title, status = "invalid_parameter", "Invalid parameter", 422
    default_hint = "See /docs for every field and what it may be."


class ModeUnavailable(UserFault):
    meaning = "The mode or option cannot run on this machine."
    code, title, status = "mode_unavailable", "Not available on this machine", 422
    default_hint = "GET /info shows what this machine supports."


class IdempotencyInProgress(UserFault):
    meaning = "The first request with this Idempotency-Key has not been answered yet."
    code, title, status = "idempotency_in_progress", "Request in progress", 409
    default_hint = "Wait and send the same request again."


class IdempotencyKeyReused(UserFault):
    meaning = "The Idempotency-Key belongs to a different request."
    code, title, status = "idempotency_key_reused", "Key used for another request", 422
    default_hint = "Use a new Idempotency-Key for a new request."


# --- user faults: the address


class NotFound(UserFault):
    meaning = "No such path."
    code, title, status = "not_found", "Not found", 404
    default_hint = "See /docs for the list of addresses."


class MethodNotAllowed(UserFault):
    meaning = "The path exists, the method does not."
    code, title, status = "method_not_allowed", "Method not allowed", 405
    default_hint = "The Allow header names the methods of this address."


class JobNotFound(UserFault):
    meaning = "No job has this id."
    code, title, status = "job_not_found", "Job not found", 404
    default_hint = "Check the id; a deleted job cannot be restored."


class JobExpired(UserFault):
    meaning = "The job ended longer ago than this server keeps jobs; its files are deleted."
    code, title, status = "job_expired", "Job expired", 410
    default_hint = "Send the video again."


class OutputNotFound(UserFault):
    meaning = "The job is known, the file is not in its list of outputs."
    code, title, status = "file_not_found", "File not found", 404
    default_hint = "GET /jobs/{id} lists the `files` of the job."


class JobNotFinished(UserFault):
    meaning = "The job is not finished, or the file is not complete yet."
    code, title, status = "job_not_finished", "Job not finished", 409
    default_hint = "Poll GET /jobs/{id} until its status is finished."


class AlreadyFinished(UserFault):
    meaning = "The job has ended, so it cannot be cancelled."
    code, title, status = "already_finished", "Job already finished", 409
    default_hint = "GET /jobs/{id} shows how it ended; DELETE /jobs/{id} removes it."


class PreconditionFailed(UserFault):
    meaning = "The ETag or the time in If-Match, If-None-Match or If-Unmodified-Since is another."
    code, title, status = "precondition_failed", "Precondition failed", 412
    default_hint = "Read the current state first, or leave the condition out."


class RangeNotSatisfiable(UserFault):
    meaning = "The Range header asks for bytes after the end of the file."
    code, title, status = "range_not_satisfiable", "Range not satisfiable", 416


# --- user faults: the input


class UploadTooLarge(UserFault):
    meaning = "More bytes than MAX_UPLOAD_SIZE."
    code, title, status = "upload_too_large", "Upload too large", 413
    default_hint = "Send a shorter or more compressed clip."


class UnsupportedMediaType(UserFault):
    meaning = "Neither a video container that we read nor a zip of frames."
    code, title, status = "unsupported_media_type", "Unsupported media type", 415
    default_hint = (
        "Send mp4, mov, avi, webm, mkv, GIF or animated WebP, or a zip of 16 to 121 PNG, JPEG "
        "or WebP frames."
    )


class VideoUnreadable(UserFault):
    meaning = "The container is valid, but its frames cannot be decoded within our limits."
    code, title, status = "video_unreadable", "Video unreadable", 422
    default_hint = "Re-encode the clip, for example as H.264 in mp4, and send it again."


class VideoTooShort(UserFault):
    meaning = "Fewer frames than ActionMesh needs."
    code, title, status = "video_too_short", "Video too short", 422
    default_hint = "Send a longer clip, an earlier `start`, or a higher `fps`."


class NoSubjectFound(UserFault):
    meaning = "No subject could be separated from the background."
    code, title, status = "no_subject_found", "No subject found", 422
    default_hint = (
        "Film one subject, whole in the picture, before a plain background, "
        "or send a zip of frames with an alpha channel."
    )


class UrlNotAllowed(UserFault):
    meaning = "The address is malformed, not http(s), or its host is in a private network."
    code, title, status = "url_not_allowed", "URL not allowed", 422
    default_hint = "Use a public http or https address without credentials, on port 80 or 443."


class UrlFetchFailed(UserFault):
    meaning = "The address is allowed, but the download failed."
    code, title, status = "url_fetch_failed", "Download failed", 422
    default_hint = "Check that the address is that of the file itself, and send the job again."
    retryable = True


# --- server faults: busy


class QueueFull(ServerFault):
    meaning = "MAX_QUEUE jobs are waiting."
    code, title, status = "queue_full", "Queue full", 503
    default_hint = "Try again when a job has finished; Retry-After says when."


class TooManyUploads(ServerFault):
    meaning = "MAX_UPLOADS bodies are being received."
    code, title, status = "too_many_uploads", "Too many uploads at once", 503
    default_hint = "Try again in a few seconds."


class Draining(ServerFault):
    meaning = "The server is stopping and takes no new work."
    code, title, status = "draining", "Server is stopping", 503
    default_hint = "Try again when the server has been restarted."


class StorageUnavailable(ServerFault):
    meaning = "JOBS_DIR is missing, was replaced, or cannot be read or written now."
    code, title, status = "storage_unavailable", "Storage unavailable", 503
    default_hint = "Try again when the server's disk is repaired; GET /ready says when."


class InsufficientStorage(ServerFault):
    meaning = "Less than MIN_FREE_GB is left on the disk of JOBS_DIR."
    code, title, status = "insufficient_storage", "Not enough disk space", 507
    default_hint = "Delete old jobs, or set JOB_TTL_HOURS or JOBS_MAX_GB on the server."


# --- server faults: the job


class WorkerCrashed(ServerFault):
    meaning = "The process that ran the job ended without a result, in each attempt."
    code, title = "worker_crashed", "The worker crashed"
    default_hint = "Try a shorter or smaller clip, or mode=fast_low_ram."


class InputCrashesPipeline(ServerFault):
    meaning = "Native code crashed on this input in two attempts; a third would end the same way."
    code, title = "input_crashes_pipeline", "The input crashes the pipeline"
    default_hint = (
        "Retry with mode=fast_low_ram or another `start`, or encode the clip again at a common "
        "size, such as 1280 x 720."
    )
    retryable = False


class TimedOut(ServerFault):
    meaning = "The job took longer than JOB_TIMEOUT, which is for 31 frames."
    code, title = "timed_out", "Timed out"
    default_hint = "Try mode=fast or fewer frames, or raise JOB_TIMEOUT on the server."


class GpuOutOfMemory(ServerFault):
    meaning = "The GPU's memory did not suffice, not even in low-RAM mode."
    code, title = "gpu_out_of_memory", "GPU out of memory"
    default_hint = "Retry with mode=fast_low_ram, or max_frames=16."


class GpuError(ServerFault):
    meaning = "The GPU or its driver failed."
    code, title = "gpu_error", "GPU error"
    default_hint = "Retry; if it happens again, look at the server's log."


class DiskFull(ServerFault):
    meaning = "The disk became full while the job ran."
    code, title, status = "disk_full", "Disk full", 507
    default_hint = "Free space in JOBS_DIR and retry."


class WeightsUnavailable(ServerFault):
    meaning = "The model's weights are not on disk and cannot be downloaded."
    code, title, status = "weights_unavailable", "Model weights unavailable", 503


class InternalError(ServerFault):
    meaning = "A bug in the server. Details are in the log only."

    def __init__(self, message: str = "Something went wrong on the server.", **more: Any) -> None:
        super().__init__(message, **more)


class Cancelled(Exception):
    """Raised inside a job at the first progress report after it was cancelled."""


def is_disk_full(exc: OSError) -> bool:
    """True if there was no space left, on the disk or in a quota."""
    return exc.errno in (errno.ENOSPC, errno.EDQUOT)


def from_os_error(exc: OSError) -> ServerFault:
    """DiskFull for a full disk, InternalError for any other failure of the disk."""
    if is_disk_full(exc):
        return DiskFull("The disk of the server is full.")
    return InternalError("The server could not read or write its files.")


ERRORS_BY_CODE: dict[str, type[ServiceError]] = {
    kind.code: kind for base in (UserFault, ServerFault) for kind in base.__subclasses__()
}
