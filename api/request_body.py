"""The body of a request: which headers are accepted, how long we wait, and its three forms.

multipart/form-data streams through multipart.py; JSON and urlencoded bodies are small. Nothing here
probes the video (intake/ does) or knows jobs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from api.multipart import (
    MAX_FIELDS,
    MAX_SMALL_BODY,
    MultipartForm,
    Received,
    too_large,
    total_limit,
)
from api.upload_places import UploadPlace
from errors import (
    InvalidParameter,
    MalformedRequest,
    MissingInput,
    RequestTimeout,
    UnsupportedMediaType,
    UploadTooSlow,
)
from job.options import check_names

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"

BODY_IDLE_S = 30.0
"""The request fails if no byte of the body arrives for so long, or fewer than MIN_UPLOAD_RATE asks
for: slower bytes use this time up, faster ones give it back.
"""
BODY_TOTAL_S = 1800.0
"""The request fails if the whole body takes longer."""
PIECE_BYTES = 65_536
TURN_S = 0.005
"""Other requests get a turn after so long: there are multipart bodies that take 0.5 us a byte."""


def check_head(headers: Headers, limits: Mapping[str, int]) -> tuple[str, int]:
    """The media type of the body and how many bytes to reserve, if its headers are acceptable.

    `limits` are the largest sizes of its files in bytes, by field name. Raises MissingInput,
    UnsupportedMediaType, MalformedRequest and UploadTooLarge, all before a byte is read.
    """
    media_type = parse_options_header(headers.get("content-type", ""))[0].decode("latin-1")
    length = _content_length(headers)
    if not media_type and length == 0:
        raise MissingInput("The request has no body.")
    if media_type not in (MULTIPART, URLENCODED, JSON):
        raise UnsupportedMediaType(
            f"The body's Content-Type is {media_type[:80] or 'missing'}.",
            hint=f"Send {MULTIPART} with a `file`, or {JSON} with a `video_url`.",
            formats=[MULTIPART, JSON, URLENCODED],
        )
    multipart = media_type == MULTIPART
    if length is not None and length > (total_limit(limits) if multipart else MAX_SMALL_BODY):
        raise too_large(limits["file"] if multipart else MAX_SMALL_BODY)
    return media_type, sum(limits.values()) if length is None else length


def _content_length(headers: Headers) -> int | None:
    """The declared length in bytes; 0 without a body, None if it is not declared."""
    text = headers.get("content-length")
    if text is None:
        return None if "transfer-encoding" in headers else 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise MalformedRequest("Content-Length is not a whole number.")
    return int(text)


async def receive(
    request: Request,
    place: UploadPlace,
    media_type: str,
    limits: Mapping[str, int],
    paths: Mapping[str, Path],
    check_name: Callable[[str], None],
    *,
    with_hash: bool,
) -> Received:
    """Read the body in its place; the other parameters are those of MultipartForm.

    Raises the errors of check_head, InvalidParameter, BothInputs, RequestTimeout, UploadTooSlow,
    OSError and ClientDisconnect; files may then be incomplete.
    """
    if media_type == MULTIPART:
        form = MultipartForm(request.headers, limits, paths, check_name, with_hash)
        try:
            await _read(request, place, form.feed)
            return form.finish()
        finally:
            form.close()
    body = await _small_body(request, place)
    fields = _json_object(body) if media_type == JSON else _urlencoded(body)
    for name in fields:
        check_name(name)
    for name in limits:
        if name in fields:
            raise InvalidParameter(f"`{name}` needs a {MULTIPART} body.", field=name)
    return Received(fields)


async def _small_body(request: Request, place: UploadPlace) -> bytes:
    """A whole body of at most MAX_SMALL_BODY bytes."""
    body = bytearray()

    def take(piece: bytes) -> None:
        body.extend(piece)
        if len(body) > MAX_SMALL_BODY:
            raise too_large(MAX_SMALL_BODY)

    await _read(request, place, take)
    return bytes(body)


async def json_options(
    request: Request, place: UploadPlace, known: Iterable[str]
) -> dict[str, Any]:
    """The optional JSON object of requests that need no body."""
    body = await _small_body(request, place)
    if not body.strip():
        return {}
    media_type = parse_options_header(request.headers.get("content-type", ""))[0]
    if media_type.decode("latin-1") != JSON:
        raise UnsupportedMediaType(
            "The body is not declared as JSON.", hint=f"Send {JSON}.", formats=[JSON]
        )
    fields = _json_object(body)
    check_names(fields, known)
    return fields


async def _read(request: Request, place: UploadPlace, take: Callable[[bytes], object]) -> None:
    """Call `take` with each piece of the body.

    Raises RequestTimeout, UploadTooSlow and ClientDisconnect. One cancel scope for the whole body,
    extended from time to time: one per piece would cost 16 us, a sixth of the whole upload.
    """
    clock = asyncio.get_running_loop().time
    last = clock()
    end = last + BODY_TOTAL_S
    more = True
    with (
        anyio.CancelScope(deadline=min(last + BODY_IDLE_S, end)) as scope,
        place.read(last, scope),
    ):
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more, body = message.get("more_body", False), message.get("body", b"")
            last = clock()
            place.received(len(body), last)
            deadline = min(place.paid_until + BODY_IDLE_S, end)
            if deadline - scope.deadline > BODY_IDLE_S / 10:
                scope.deadline = deadline
            await _take_by_turns(body, take, place.turn)
    if not scope.cancelled_caught:
        return
    if place.min_rate and clock() < min(last + BODY_IDLE_S, end) - 0.1:
        rate = place.min_rate
        raise UploadTooSlow(f"Less than {rate} bytes a second.", min_bytes_per_second=rate)
    raise RequestTimeout(
        "The body stopped arriving, or took too long.",
        idle_seconds=BODY_IDLE_S,
        total_seconds=BODY_TOTAL_S,
    )


async def _take_by_turns(body: bytes, take: Callable[[bytes], object], turn: asyncio.Lock) -> None:
    """Small pieces. If `take` needs long for them, all other requests are served in between."""
    began = time.perf_counter()  # the loop's own clock stands still between two turns
    for at in range(0, len(body), PIECE_BYTES):
        take(body[at : at + PIECE_BYTES])
        if time.perf_counter() - began > TURN_S:
            async with turn:  # of several such bodies, one at a time
                await asyncio.sleep(0)
            began = time.perf_counter()


def _urlencoded(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=MAX_FIELDS,
            errors="strict",
        )
    except ValueError:  # also UnicodeDecodeError
        raise MalformedRequest("The form body cannot be parsed.") from None
    return _once(pairs)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_refuse_constant)
        # a lone surrogate is legal JSON but not text: it could be stored but not shown
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise MalformedRequest("The body is not valid JSON.") from None
    if not isinstance(found, dict):
        raise MalformedRequest("The JSON body must be an object.")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a field that is given twice: it is unclear which value is meant."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidParameter("A field is given twice.")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
