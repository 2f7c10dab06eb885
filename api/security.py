"""The outermost layer of every request: which ones are allowed, and headers for every reply.

Pure ASGI: checks Host, Origin and key before a byte of the body is read, adds X-Request-ID, CORS
and security headers, and answers an unexpected exception with a 500 that shows only the request id.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.hosts import LOCAL_NAMES, HostRule, split_host
from api.problems import problem
from errors import (
    BadHost,
    Draining,
    InternalError,
    OriginNotAllowed,
    ServerFault,
    ServiceError,
    StorageUnavailable,
    Unauthorized,
)
from settings import Settings

log = logging.getLogger(__name__)

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
COOKIE = "am_key"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    # one policy for all replies: the page needs its scripts and blobs, JSON needs nothing
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        b"media-src 'self' blob:; connect-src 'self' blob:; worker-src 'self' blob:; "
        b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    # a cache must keep replies with and without CORS headers apart
    (b"vary", b"Origin"),
)
_NOT_EMBEDDABLE = (b"cross-origin-resource-policy", b"same-origin")
_EXPOSED = (
    b"Location, Retry-After, ETag, X-Request-ID, Content-Disposition, Content-Range, "
    b"Accept-Ranges, Idempotency-Replayed"
)
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, X-API-Key, Content-Type, Idempotency-Key, "
    "If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range, "
    "Last-Event-ID, X-Request-ID",
    "Access-Control-Max-Age": "600",
}


class SecurityMiddleware:
    """Wraps the whole app. `open_paths` need no key: health, readiness, the page and its files."""

    def __init__(self, app: ASGIApp, settings: Settings, open_paths: frozenset[str]) -> None:
        self._app = app
        self._settings = settings
        self._open_paths = open_paths
        self._keys = tuple(key.encode() for key in settings.api_keys)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.cors_origins)
        self._hosts = HostRule(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Lifespan events pass through, but a traceback in them is cut to one line."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, _without_traceback(send))
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        # uvicorn gives all requests the same `state` contents, so this request gets a copy
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        scope["root_path"] = self._settings.root_path or scope.get("root_path", "")
        origin = headers.get("origin")
        allowed_origin = origin if origin and self._is_allowed(origin, headers) else None
        reply = _Reply(send, self._extra_headers(scope, request_id, allowed_origin))
        try:
            refusal = (  # in the order of the contract
                self._check_host(scope, headers)
                or self._check_origin(scope["method"], headers)
                or self._check_key(scope, headers)
            )
            if refusal is not None:
                await problem(refusal, scope)(scope, receive, reply)
            elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, reply)
            else:
                await self._app(scope, receive, reply)
        except ClientDisconnect:
            log.info("the client went away (request %s)", request_id)
        except asyncio.CancelledError:  # the server stops, and does not wait any longer
            if not reply.started:
                stopped = Draining("The server stopped before it had answered this request.")
                await problem(stopped, scope)(scope, receive, reply)
        except Exception as exc:
            error: ServerFault = InternalError()
            if isinstance(exc, OSError):
                error = await scope["app"].state.app_state.from_os_error(exc)
            if reply.started or not isinstance(error, StorageUnavailable):
                log.exception("request %s failed", request_id)
            if reply.started:
                raise  # too late for an error reply: the server closes the connection
            await problem(error, scope)(scope, receive, reply)

    # --- Host: the only protection from DNS rebinding

    def _check_host(self, scope: Scope, headers: Headers) -> ServiceError | None:
        if self._hosts.allows(headers.getlist("host"), scope["http_version"]):
            return None
        return BadHost("This server does not answer for the host in the Host header.")

    # --- Origin: a browser lets any page on the web post a form to this server

    def _check_origin(self, method: str, headers: Headers) -> ServiceError | None:
        is_preflight = method == "OPTIONS" and "access-control-request-method" in headers
        if method in SAFE_METHODS and not is_preflight:
            return None
        for origin in headers.getlist("origin"):
            if not self._is_allowed(origin, headers):
                return OriginNotAllowed("Pages of this origin may not change anything here.")
        if "origin" not in headers:
            for site in headers.getlist("sec-fetch-site"):
                if site.strip().lower() not in ("same-origin", "none"):
                    return OriginNotAllowed("Pages of other sites may not change anything here.")
        return None

    def _is_allowed(self, origin: str, headers: Headers) -> bool:
        origin = origin.lower()
        if origin in self._origins:
            return True
        parts = _split_origin(origin)
        if parts is None:
            return False
        scheme, name, port = parts
        if name in LOCAL_NAMES:
            return True
        default = {"http": 80, "https": 443}[scheme]
        host = split_host(headers.getlist("host"))
        return host is not None and (host[0], host[1] or default) == (name, port or default)

    # --- key

    def _check_key(self, scope: Scope, headers: Headers) -> ServiceError | None:
        method = scope["method"]
        if not self._keys or method == "OPTIONS":
            return None
        if method in ("GET", "HEAD") and _path(scope) in self._open_paths:
            return None
        # all pairs are compared, so that the time taken reveals nothing about a key
        matches = [
            hmac.compare_digest(presented, key)
            for presented in _presented_keys(method, headers)
            for key in self._keys
        ]
        return None if any(matches) else Unauthorized("This server needs a valid key.")

    # --- headers of every reply

    def _extra_headers(
        self, scope: Scope, request_id: str, allowed_origin: str | None
    ) -> list[tuple[bytes, bytes]]:
        extra = [(b"x-request-id", request_id.encode()), *SECURITY_HEADERS]
        if not _path(scope).startswith("/outputs/"):
            extra.append(_NOT_EMBEDDABLE)
        if allowed_origin is not None:
            extra.append((b"access-control-allow-origin", allowed_origin.encode("latin-1")))
            extra.append((b"access-control-expose-headers", _EXPOSED))
        return extra


@dataclass
class _Reply:
    """The server's `send`, with our headers added to the first message."""

    send: Send
    extra: list[tuple[bytes, bytes]]
    started: bool = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", ()), *self.extra]}
        await self.send(message)


def _request_id(headers: Headers) -> str:
    """The client's own id if it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def _path(scope: Scope) -> str:
    """The path below ROOT_PATH, whether or not the proxy has removed that prefix."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _split_origin(origin: str) -> tuple[str, str, int | None] | None:
    """Scheme, host (IPv6 in brackets) and port; None for `null` and anything that is no origin."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or parts.path or parts.query:
        return None
    return parts.scheme, f"[{host}]" if ":" in host else host, port


def _presented_keys(method: str, headers: Headers) -> Iterator[bytes]:
    """Every key that the request carries; the cookie is accepted for reading only."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip().encode("latin-1")
    if "x-api-key" in headers:
        yield headers["x-api-key"].strip().encode("latin-1")
    if method in ("GET", "HEAD"):
        for pair in headers.get("cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == COOKIE:
                yield unquote(value, errors="replace").encode()


def _without_traceback(send: Send) -> Send:
    """Of a failed start, pass on the last line of the traceback: the message for the operator."""

    async def shortened(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            last = str(message.get("message", "")).strip().rpartition("\n")[2]
            message = {**message, "message": last.partition(": ")[2] or last}
        await send(message)

    return shortened
