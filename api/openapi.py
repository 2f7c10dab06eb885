"""The parts of /openapi.json that FastAPI cannot read from the routes: bodies, errors, examples.

Examples are complete bodies; the tests parse each with its model and send the requests to a server.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

import errors
from api import schemas
from api.examples import EXAMPLES, JOB_EXAMPLES
from api.multipart import MAX_SMALL_BODY
from api.problems import MEDIA_TYPE, problem_body
from errors import ServiceError
from intake.glb import MAX_MESH_BYTES
from job.options import REQUEST_FIELDS, RETRY_FIELDS, as_text

_BINARY = {"type": "string", "format": "binary"}
_EVERYWHERE = (errors.BadHost, errors.HeadTooLarge, errors.InternalError)

_KEY = {"bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}  # fmt: skip
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request with the same key makes one job, however often it is sent.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}

_SUBMISSION_ERRORS = (
    errors.MalformedRequest,
    errors.OriginNotAllowed,
    errors.RequestTimeout,
    errors.UploadTooSlow,
    errors.IdempotencyInProgress,
    errors.IdempotencyKeyReused,
    errors.UploadTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidParameter,
    errors.VideoUnreadable,
    errors.VideoTooShort,
    errors.ModeUnavailable,
    errors.QueueFull,
    errors.TooManyUploads,
    errors.Draining,
    errors.StorageUnavailable,
    errors.InsufficientStorage,
)

_FACTS: dict[type[ServiceError], dict[str, Any]] = {
    errors.UploadTooLarge: {"max_bytes": 104857600},
    errors.UploadTooSlow: {"min_bytes_per_second": 16384},
    errors.VideoTooShort: {"frames": 10, "min_frames": 16},
    errors.InvalidParameter: {"field": "mod", "fields": ["file", "mode"]},
    errors.UnsupportedMediaType: {
        "formats": ["mp4", "mov", "avi", "webm", "mkv", "gif", "webp", "zip"]
    },
    errors.QueueFull: {"queued": 32, "max_queue": 32, "retry_after": 40},
}


def answers(*kinds: type[ServiceError], keyless: bool = False) -> dict[int | str, dict[str, Any]]:
    """The error replies of a route, with one example each; those of every route are added.

    `keyless`: it needs no key where others do.
    """
    by_status: defaultdict[int, list[type[ServiceError]]] = defaultdict(list)
    for kind in (*kinds, *_EVERYWHERE, *(() if keyless else (errors.Unauthorized,))):
        by_status[kind.status].append(kind)
    return {
        status: {
            "description": ", ".join(kind.title for kind in same),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {kind.code: _problem_example(kind) for kind in same},
                }
            },
        }
        for status, same in by_status.items()
    }


def _problem_example(kind: type[ServiceError]) -> dict[str, Any]:
    body = problem_body(kind(f"{kind.title}.", **_FACTS.get(kind, {})), "0f3c1e9d")
    return {"summary": kind.title, "value": body.model_dump(exclude_unset=True)}


def reply(
    model: type[BaseModel], description: str, *examples: str, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    shown = {"examples": {name: {"value": EXAMPLES[name]} for name in examples}}
    content = {"application/json": shown}
    return {status: {"model": model, "description": description, "content": content}}


def raw(description: str, *media_types: str, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """A reply without a model. Its route needs `response_class=Response`, or FastAPI adds JSON."""
    content = {name: {"schema": _schema(name)} for name in media_types}
    return {status: {"description": description, "content": content}}


def _schema(media_type: str) -> dict[str, Any]:
    if media_type == "application/json":
        return {"type": "object"}
    return {"type": "string"} if media_type.startswith("text/") else _BINARY


HEALTH = {
    **reply(schemas.Health, "The server is healthy.", "healthy"),
    **reply(
        schemas.Health,
        "The server must be restarted, or its disk repaired.",
        "unhealthy",
        status=503,
    ),
}
READY = {
    **reply(schemas.Ready, "A job sent now runs at once.", "ready"),
    **reply(schemas.Ready, "A job sent now must wait.", "not_ready", status=503),
}
EVENTS: dict[int | str, dict[str, Any]] = {
    **raw("Events whose `data` is the body of GET /jobs/{job_id}.", "text/event-stream"),
    204: {"description": "The last event has been received already (Last-Event-ID)."},
}
METRICS = raw("Prometheus text format.", "text/plain")
_UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "It has the ETag in If-None-Match."}
}
PAGE = {**raw("The page.", "text/html"), **_UNCHANGED}
LINKS = raw("Links, since the page is not installed here.", "application/json")
CLIENT = {**raw("Python source.", "text/x-python"), **_UNCHANGED}
INFO = reply(schemas.Info, "What this server is and can.", "info")
DELETED = reply(schemas.Deleted, "The job is deleted.", "deleted")
CANCELLED = {
    **reply(schemas.Cancelled, "Cancelled.", "cancelled"),
    **reply(schemas.Cancelled, "Will be cancelled at its next step.", "cancelling", status=202),
}
JOB_LIST = reply(schemas.JobList, "One page.", "list")
JOB: dict[int | str, dict[str, Any]] = {
    **reply(schemas.JobBody, "The whole state.", *JOB_EXAMPLES),
    304: {"description": "Nothing has changed since the ETag in If-None-Match."},
}


# --- what a request may hold


def _body(fields: Mapping[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields, "additionalProperties": False}
    return {"schema": {**schema, "required": required} if required else schema, **more}


_FILES = {
    "file": {
        **_BINARY,
        "description": "mp4, mov, avi, webm, mkv, GIF or animated WebP, or a zip of 16 to 121 "
        "PNG, JPEG or WebP frames in natural order (alpha is used).",
    },
    "mesh": {
        **_BINARY,
        "description": f"A .glb of at most {MAX_MESH_BYTES} bytes, in the pose of the subject in "
        "the first frame: it is animated instead of a new shape. ActionMesh pipeline only.",
    },
}
_FORM_FIELDS = {**REQUEST_FIELDS, "formats": as_text(REQUEST_FIELDS["formats"])}
_VIDEO_URL = {"video_url": "https://example.com/cat.mp4", "mode": "fast"}
_UPLOAD_BODY = {
    "required": True,
    "description": f"A JSON body holds at most {MAX_SMALL_BODY} bytes.",
    "content": {
        "multipart/form-data": _body({**_FILES, **_FORM_FIELDS}),
        "application/json": _body(REQUEST_FIELDS, "video_url", example=_VIDEO_URL),
        "application/x-www-form-urlencoded": _body(_FORM_FIELDS, "video_url"),
    },
}
_LINKS = {
    name: {"operationId": name, "parameters": {"job_id": "$response.body#/job_id"}}
    for name in ("get_job", "follow_job", "cancel_job", "retry_job", "delete_job", "get_archive")
}
_RETRY_BODY = {
    "required": False,
    "content": {"application/json": _body(RETRY_FIELDS, example={"mode": "fast", "seed": 7})},
}


def _submission(body: dict[str, Any], *kinds: type[ServiceError]) -> dict[str, Any]:
    accepted = reply(schemas.Accepted, "The job is stored and waits.", "accepted", status=202)
    accepted[202]["links"] = _LINKS
    return {
        "status_code": 202,
        "responses": {**accepted, **answers(*_SUBMISSION_ERRORS, *kinds)},
        "openapi_extra": {"requestBody": body, "parameters": [_IDEMPOTENCY_KEY]},
    }


SUBMIT_ROUTE = _submission(
    _UPLOAD_BODY, errors.MissingInput, errors.BothInputs, errors.UrlNotAllowed
)
RETRY_ROUTE = _submission(_RETRY_BODY, errors.JobNotFound, errors.JobNotFinished, errors.JobExpired)
"""Arguments of the decorators of the two routes that make jobs."""


def complete(app: FastAPI) -> None:
    """Give the app an `openapi` that knows our problem documents instead of the framework's.

    Operations are named as their functions: generated clients have these names.
    """
    made_by_framework = app.openapi
    for route in app.routes:
        if isinstance(route, APIRoute):
            route.operation_id = route.name

    @cache
    def openapi() -> dict[str, Any]:
        document = made_by_framework()
        known = document["components"]["schemas"]
        known["Problem"] = schemas.Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            known.pop(unused, None)
        document["components"]["securitySchemes"] = _KEY
        document["security"] = [{}, *({name: []} for name in _KEY)]  # where API_KEY is set
        for operations in document["paths"].values():
            for replies in (operation["responses"] for operation in operations.values()):
                # the framework adds one for every path parameter, but ours accept any text
                if "application/json" in replies.get("422", {}).get("content", {}):
                    del replies["422"]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
