"""What /openapi.json says beyond what FastAPI can read from the routes: bodies, errors, examples.

Examples are complete bodies; the tests parse each with its model and send the requests to a server.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from api import schemas
from api.examples import EXAMPLE_ID, JOB_EXAMPLES
from api.multipart import MAX_SMALL_BODY
from api.options import FORMATS, MAX_SEED
from api.problems import MEDIA_TYPE, problem_body
from errors import (
    BadHost,
    BothInputs,
    Draining,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InsufficientStorage,
    InternalError,
    InvalidParameter,
    MalformedRequest,
    MissingInput,
    ModeUnavailable,
    OriginNotAllowed,
    QueueFull,
    RequestTimeout,
    ServiceError,
    TooManyUploads,
    Unauthorized,
    UnsupportedMediaType,
    UploadTooLarge,
    UrlNotAllowed,
    VideoTooShort,
    VideoUnreadable,
)
from presets import MAX_FRAMES, MIN_FRAMES, MODES

_EVERYWHERE = (BadHost, Unauthorized, InternalError)

UPLOAD_ERRORS = (
    MalformedRequest, MissingInput, BothInputs, OriginNotAllowed, RequestTimeout,
    IdempotencyInProgress, IdempotencyKeyReused, UploadTooLarge, UnsupportedMediaType,
    InvalidParameter, VideoUnreadable, VideoTooShort, UrlNotAllowed, ModeUnavailable, QueueFull,
    TooManyUploads, Draining, InsufficientStorage,
)  # fmt: skip

_FACTS: dict[type[ServiceError], tuple[str, dict[str, Any]]] = {
    UploadTooLarge: ("More than the 104857600 bytes that are allowed.", {"max_bytes": 104857600}),
    VideoTooShort: (
        "The clip has 10 frames; at least 16 are needed.",
        {"frames": 10, "min_frames": 16},
    ),
    InvalidParameter: (
        'There is no field "mod". Did you mean `mode`?',
        {"field": "mod", "fields": ["file", "mode"]},
    ),
    UnsupportedMediaType: (
        "This is no video container that we read.",
        {"formats": ["mp4", "mov", "avi", "webm", "zip"]},
    ),
    QueueFull: ("32 jobs are waiting already.", {"queued": 32, "max_queue": 32, "retry_after": 40}),
}


def answers(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The error replies of a route, with one example each; those of every route are added."""
    by_status: dict[int | str, dict[str, Any]] = {}
    kinds: tuple[type[ServiceError], ...] = (*errors, *_EVERYWHERE)
    for kind in kinds:
        found = by_status.setdefault(
            kind.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": _PROBLEM, "examples": {}}}},
        )
        message, facts = _FACTS.get(kind, (f"{kind.title}.", {}))
        found["content"][MEDIA_TYPE]["examples"][kind.code] = {
            "summary": kind.title,
            "value": problem_body(kind(message, **facts), "0f3c1e9d"),
        }
        found["description"] = ", ".join(
            example["summary"] for example in found["content"][MEDIA_TYPE]["examples"].values()
        )
    return by_status


def reply(
    model: type[BaseModel], description: str, example: dict[str, Any], status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """One good reply, with its model and an example."""
    content = {"application/json": {"example": example}}
    return {status: {"model": model, "description": description, "content": content}}


_PROBLEM = {"$ref": "#/components/schemas/Problem"}

ACCEPTED = reply(
    schemas.Accepted,
    "The job is stored and waits.",
    {"job_id": EXAMPLE_ID, "status": "queued"},
    202,
)
HEALTH = {
    **reply(schemas.Health, "All is well.", {"status": "healthy", "gpu_available": False}),
    **reply(
        schemas.Health, "Restart me.", {"status": "unhealthy", "gpu_available": False}, status=503
    ),
}
READY = {
    **reply(schemas.Ready, "A job sent now runs at once.", {"ready": True}),
    **reply(schemas.Ready, "Not yet.", {"ready": False, "reason": "loading_model"}, status=503),
}
LINKS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The page, or a list of links where it is not installed.",
        "content": {
            "text/html": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
CLIENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Python source.",
        "content": {"text/x-python": {"schema": {"type": "string"}}},
    }
}
INFO = reply(
    schemas.Info,
    "What this server is and can.",
    {
        "name": "actionmesh-worker",
        "version": "1.0.0",
        "pipeline": {"name": "silhouette", "reason": "no CUDA GPU was found"},
        "model": {
            "name": "silhouette", "revision": None, "license": "Apache-2.0", "notice": "A guess.",
        },
        "gpu": None,
        "modes": [
            {
                "id": "default", "min_vram_gb": None, "available": True, "default": True,
                "typical_seconds": 21.4,
            }
        ],
        "limits": {
            "max_upload_bytes": 104857600, "min_frames": 16, "max_frames": 31, "max_queue": 32,
            "formats": ["mp4", "mov", "avi", "webm", "zip"],
        },
        "features": {"animated_mesh": True, "preview_video": True},
        "queue": {"queued": 2, "running": 1},
    },
)  # fmt: skip
DELETED = reply(schemas.Deleted, "Gone.", {"status": "deleted", "job_id": EXAMPLE_ID})
CANCELLED = {
    **reply(schemas.Cancelled, "Cancelled.", {"job_id": EXAMPLE_ID, "status": "cancelled"}),
    **reply(
        schemas.Cancelled,
        "Will be cancelled at its next step.",
        {"job_id": EXAMPLE_ID, "status": "running", "cancel_requested": True},
        status=202,
    ),
}
JOB_LIST = reply(
    schemas.JobList,
    "One page.",
    {
        "jobs": [
            {
                "job_id": EXAMPLE_ID,
                "status": "running",
                "mode": "default",
                "pipeline": "silhouette",
                "created_at": "2026-11-22T15:00:00.000Z",
                "filename": "cat.mp4",
                "progress": {"percent": 58.3, "stage": "motion"},
            }
        ],
        "next_cursor": None,
    },
)

JOB: dict[int | str, dict[str, Any]] = {
    200: {
        "model": schemas.JobBody,
        "description": "The whole state.",
        "content": {
            "application/json": {
                "examples": {name: {"value": body} for name, body in JOB_EXAMPLES.items()}
            }
        },
    },
    304: {"description": "Nothing has changed since the ETag in If-None-Match."},
}

# --- request bodies

_OPTION_FIELDS: dict[str, Any] = {
    "mode": {
        "type": "string",
        "enum": list(MODES),
        "description": "Default: the best that this machine's GPU memory allows.",
    },
    "blender_export": {
        "type": "boolean",
        "default": False,
        "description": "Also make animated_mesh.fbx and .abc, where Blender is installed.",
    },
    "start": {
        "type": "number", "minimum": 0, "maximum": 86400, "default": 0,
        "description": "Skip so many seconds of the video.",
    },
    "fps": {
        "type": "number", "minimum": 1, "maximum": 60,
        "description": "Frames per second to take from the video. Default: spread over the clip.",
    },
    "max_frames": {
        "type": "integer", "minimum": MIN_FRAMES, "maximum": MAX_FRAMES, "default": MAX_FRAMES,
    },
    "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "default": 44},
    "formats": {
        "type": "string",
        "description": f"More ways out, with commas between: {', '.join(FORMATS)}.",
    },
    "video_url": {
        "type": "string", "format": "uri",
        "description": "A public http or https address of the video, instead of `file`.",
    },
    "webhook_url": {
        "type": "string", "format": "uri",
        "description": "Told once when the job has ended.",
    },
}  # fmt: skip
_FILE_FIELD = {
    "type": "string",
    "format": "binary",
    "description": "mp4, mov, avi or webm, or a zip of 16 to 31 PNG, JPEG or WebP frames in "
    "natural order (alpha is honoured).",
}

UPLOAD_BODY: dict[str, Any] = {
    "required": True,
    "description": f"A JSON body holds at most {MAX_SMALL_BODY} bytes.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": _FILE_FIELD, **_OPTION_FIELDS},
                "additionalProperties": False,
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["video_url"],
                "properties": _OPTION_FIELDS,
                "additionalProperties": False,
            },
            "example": {"video_url": "https://example.com/cat.mp4", "mode": "fast"},
        },
        "application/x-www-form-urlencoded": {
            "schema": {
                "type": "object",
                "required": ["video_url"],
                "properties": _OPTION_FIELDS,
                "additionalProperties": False,
            }
        },
    },
}
