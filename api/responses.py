"""How replies are written: JSON bytes, ETags and times. Knows no route and no job."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response


class JsonResponse(Response):
    """A JSON body: a model of schemas.py, or bytes from `as_json`."""

    media_type = "application/json"

    def render(self, content: BaseModel | bytes) -> bytes:
        return content if isinstance(content, bytes) else as_json(content)


def as_json(body: BaseModel) -> bytes:
    """UTF-8 JSON of the fields that were set: `model_dump_json` without its text in between."""
    return body.__pydantic_serializer__.to_json(body, exclude_unset=True)


def has_already(request: Request, tag: str) -> bool:
    """True if If-None-Match names this ETag, weak or strong (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    named = [name.strip().removeprefix("W/") for name in given.split(",")]
    return "*" in named or tag.removeprefix("W/") in named


@lru_cache(1024)  # a job that is polled shows the same times again and again
def utc(time: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds: 2026-11-22T15:00:00.123Z."""
    if time is None:
        return None
    text = time.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
