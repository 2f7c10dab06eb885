"""Every error as one RFC 9457 problem document.

`install` registers the handlers; security.py uses `problem` for what fails outside the routes. Only
messages of our own error tree reach a client; anything else is `internal_error`, and the log has a
line with the same request id.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from api.responses import as_json
from api.schemas import Problem
from errors import (
    InternalError,
    InvalidParameter,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    ServerFault,
    ServiceError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


def problem_body(error: ServiceError, request_id: str, root_path: str = "") -> Problem:
    """The document; the facts of the error are further members, by name."""
    members: dict[str, Any] = {
        "type": f"{root_path}/docs#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
        **({"hint": error.hint} if error.hint else {}),
    }
    return Problem(**{**error.facts, **members})


def problem(
    error: ServiceError, scope: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """The reply for `error`. A fact named retry_after becomes the header as well."""
    request_id = str(scope.get("state", {}).get("request_id", ""))
    level = logging.ERROR if isinstance(error, InternalError) else logging.INFO
    log.log(level, "%s: %s (request %s)", error.code, error.message, request_id)
    all_headers = {**(headers or {}), "Cache-Control": "no-store"}
    if error.status == 401:
        all_headers["WWW-Authenticate"] = "Bearer"
    if "retry_after" in error.facts:
        all_headers["Retry-After"] = str(error.facts["retry_after"])
    elif isinstance(error, ServerFault) and error.status == 503:
        all_headers["Retry-After"] = "10"
    body = problem_body(error, request_id, str(scope.get("root_path", "")))
    return Response(as_json(body), error.status, all_headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """One handler per base class, so that a new error needs no new handler."""

    @app.exception_handler(ServiceError)
    async def on_service_error(request: Request, error: ServiceError) -> Response:
        return problem(error, request.scope)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, reason = str(first["loc"][-1]), str(first["msg"])
        message = f"{name}: {reason[:1].lower()}{reason[1:]}."
        return problem(InvalidParameter(message, field=name), request.scope)

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        """Errors of the framework: mostly unknown paths and methods."""
        if error.status_code == 404:
            return problem(NotFound("There is nothing at this address."), request.scope)
        if error.status_code == 405:
            allowed = ", ".join(_methods(app.routes, request.scope))
            message = f"{request.method} is not allowed here; use {allowed}."
            return problem(MethodNotAllowed(message), request.scope, {"Allow": allowed})
        if error.status_code < 500:
            return problem(MalformedRequest("The request cannot be understood."), request.scope)
        return problem(InternalError(), request.scope)


def _methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """The methods of this address; the framework names only those of its first route."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)
