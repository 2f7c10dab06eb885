"""Requests for the API's tests: a very small video, and multipart bodies built by hand."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import httpx

BOUNDARY = b"a-boundary"


@lru_cache
def frames_zip(frames: int = 16, side: int = 32) -> bytes:
    """A zip of PNG frames with alpha: a square that walks to the right."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for k in range(frames):
            archive.writestr(f"frame_{k:03d}.png", _png(side, 8 + k // 2))
    return packed.getvalue()


def _png(side: int, left: int) -> bytes:
    rows = b"".join(
        b"\0"
        + b"".join(
            bytes((200, 90, 40, 255 if left <= x < left + 10 and 8 <= y < 24 else 0))
            for x in range(side)
        )
        for y in range(side)
    )
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def send(
    client: httpx.Client, content: bytes | None = None, fields: Mapping[str, str] | None = None
) -> httpx.Response:
    """POST /jobs with a file, as a browser would."""
    files = {"file": ("walk.zip", frames_zip() if content is None else content)}
    return client.post("/jobs", files=files, data=dict(fields or {}))


def submit(client: httpx.Client, **fields: str) -> str:
    """The id of a new job."""
    response = send(client, fields=fields)
    assert response.status_code == 202, response.text
    return str(response.json()["job_id"])


def ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job's body once it has ended."""
    body: dict[str, Any] = client.get(f"/jobs/{job_id}", params={"wait": 50}).json()
    assert body["status"] in ("finished", "error", "cancelled"), body
    return body


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """One part of a multipart body, its boundary before it."""
    disposition = f'form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    head = f"Content-Disposition: {disposition}\r\n\r\n".encode()
    return b"--" + BOUNDARY + b"\r\n" + head + content + b"\r\n"


def multipart(*parts: bytes) -> bytes:
    """A whole body."""
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
