"""How replies are written: JSON bytes, times, and what a request's headers say about the reply.

Knows no route and no job.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache

from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from errors import PreconditionFailed

_TAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)
_LONGEST_LIST = 1000
"""Characters of Accept-Encoding; clients send 20, and 64 KB of commas would take 0.15 s."""


class JsonResponse(Response):
    """A JSON body: a model of schemas.py, or bytes from `as_json`."""

    media_type = "application/json"

    def render(self, content: BaseModel | bytes) -> bytes:
        return content if isinstance(content, bytes) else as_json(content)


def as_json(body: BaseModel) -> bytes:
    """UTF-8 JSON of the fields that were set: `model_dump_json` without its text in between."""
    return body.__pydantic_serializer__.to_json(body, exclude_unset=True)


def has_already(scope: Scope, tag: str, modified_s: float | None = None) -> bool:
    """True if the client has the current state already: a reading request is then answered 304.

    `tag` is the ETag, `modified_s` the Last-Modified in seconds since the epoch, of resources that
    have one. The conditions of RFC 9110, 13.2.2, in its order; raises PreconditionFailed.
    """
    given = [pair for pair in scope["headers"] if pair[0].startswith(b"if-")]
    if not given:
        return False
    headers = Headers(raw=given)
    reads = scope["method"] in ("GET", "HEAD")
    if "if-match" in headers:
        _require(_names(headers.getlist("if-match"), tag, weakly=False))
    else:
        unmodified_since = _time(headers.get("if-unmodified-since"))
        if unmodified_since is not None and modified_s is not None:
            _require(int(modified_s) <= unmodified_since)
    if "if-none-match" in headers:
        has_one = _names(headers.getlist("if-none-match"), tag, weakly=True)
        _require(reads or not has_one)
        return has_one
    since = _time(headers.get("if-modified-since"))
    return reads and since is not None and modified_s is not None and int(modified_s) <= since


def _require(holds: bool) -> None:
    if not holds:
        raise PreconditionFailed("The state is not the one that the request asks for.")


def _names(values: Sequence[str], tag: str, *, weakly: bool) -> bool:
    """True if a list of tags holds `tag`; only a weak comparison takes W/"x" for "x"."""
    text = ",".join(values)
    if text.strip() == "*":
        return True
    named = _TAG.findall(text)
    if weakly:
        return tag.removeprefix("W/") in [name.removeprefix("W/") for name in named]
    return tag in named and not tag.startswith("W/")


def _time(text: str | None) -> float | None:
    """An HTTP date in seconds since the epoch; None if it is not valid, which means not given."""
    try:
        found = parsedate_to_datetime(text or "")
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def accepts_gzip(headers: Headers) -> bool:
    """True if gzip is accepted, and not less than no compression at all (RFC 9110, 12.5.3)."""
    given = ",".join(headers.getlist("accept-encoding")).lower()
    if len(given) > _LONGEST_LIST:
        return False
    weights: dict[str, float] = {}
    for item in given.split(","):
        name, parameters = parse_options_header(item.strip())
        weight = parameters.get(b"q", b"1").decode("latin-1")
        weights[name.decode("latin-1")] = float(weight) if _WEIGHT.fullmatch(weight) else 0.0
    other = weights.get("*", 0.0)
    gzip = weights.get("gzip", weights.get("x-gzip", other))
    return gzip > 0 and gzip >= weights.get("identity", other)


@lru_cache(1024)  # a job that is polled shows the same times again and again
def utc(time: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds: 2026-11-22T15:00:00.123Z."""
    if time is None:
        return None
    text = time.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
