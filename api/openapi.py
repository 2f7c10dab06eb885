"""What /openapi.json says beyond what FastAPI can read from the routes: bodies, errors, examples.

Examples are complete bodies; the tests parse each with its model and send the requests to a server.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from api import schemas
from api.examples import EXAMPLE_ID, JOB_EXAMPLES
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
    JobExpired,
    JobNotFinished,
    JobNotFound,
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

_EVERYWHERE = (BadHost, Unauthorized, InternalError)

_KEY = {"bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}  # fmt: skip
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request with the same key makes one job, however often it is sent.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}

UPLOAD_ERRORS = (
    MalformedRequest, MissingInput, BothInputs, OriginNotAllowed, RequestTimeout,
    IdempotencyInProgress, IdempotencyKeyReused, UploadTooLarge, UnsupportedMediaType,
    InvalidParameter, VideoUnreadable, VideoTooShort, UrlNotAllowed, ModeUnavailable, QueueFull,
    TooManyUploads, Draining, InsufficientStorage,
)  # fmt: skip

RETRY_ERRORS = (
    MalformedRequest, OriginNotAllowed, RequestTimeout, JobNotFound, JobNotFinished, JobExpired,
    IdempotencyInProgress, IdempotencyKeyReused, UploadTooLarge, UnsupportedMediaType,
    InvalidParameter, VideoUnreadable, VideoTooShort, ModeUnavailable, QueueFull, TooManyUploads,
    Draining, InsufficientStorage,
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
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events whose `data` is the body of GET /jobs/{job_id}.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The end has been told already (Last-Event-ID)."},
}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
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
        "pipeline": {"name": "actionmesh", "reason": "a CUDA GPU was found (NVIDIA H200)"},
        "model": {
            "name": "facebook/ActionMesh",
            "revision": "main",
            "license": "FAIR Noncommercial Research License v1",
            "notice": "Non-commercial research only.",
        },
        "gpu": {"name": "NVIDIA H200", "memory_gb": 150.8},
        "modes": [
            {
                "id": "default",
                "min_vram_gb": 32,
                "available": True,
                "default": True,
                "typical_seconds": 75.2,
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
        "next_cursor": "41",
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


def complete(app: FastAPI) -> None:
    """Give the app an `openapi` that knows our problem documents instead of the framework's."""
    made_by_framework = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made_by_framework()
            known = document["components"]["schemas"]
            known["Problem"] = schemas.Problem.model_json_schema()
            for name in ("HTTPValidationError", "ValidationError"):
                known.pop(name, None)
            document["components"]["securitySchemes"] = _KEY
            document["security"] = [{}, *({name: []} for name in _KEY)]  # where API_KEY is set
            for operations in document["paths"].values():
                for operation in operations.values():
                    _drop_unused_422(operation["responses"])
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_unused_422(replies: dict[str, Any]) -> None:
    """The framework adds one to every route that has a path parameter; ours cannot fail."""
    if "application/json" in replies.get("422", {}).get("content", {}):
        del replies["422"]
