"""What an attack is, and the ways to send it: raw bytes on a socket, or a file as an upload."""

from __future__ import annotations

import http.client
import re
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.faults.server import Server

MB = 1 << 20
CLOSED = 0
"""In place of a status: the connection was closed without an answer."""
SILENT = -1
"""In place of a status: no answer in time."""
REFUSED = frozenset({400, 408, 413, 415, 422})
"""What a request or file that is wrong may be answered with."""
TOO_LONG = frozenset({431, CLOSED})
"""What may follow a head or a trailer of megabytes."""
ANSWER_S = 40.0

Run = Callable[["Target"], Iterable[int]]


@dataclass(frozen=True)
class Target:
    """A running server, and a folder for files; `media` is that of TEST_MEDIA, if there is one."""

    server: Server
    folder: Path
    media: Path | None


@dataclass(frozen=True)
class Attack:
    """`run` yields the status of each answer, and `right` holds those that are right.

    `short`: it takes at most a few seconds. `pipeline`: the server's PIPELINE.
    """

    name: str
    run: Run
    right: frozenset[int]
    short: bool
    needs_media: bool
    pipeline: str


def attack(
    *right: int, short: bool = False, needs_media: bool = False, pipeline: str = "silhouette"
) -> Callable[[Run], Attack]:
    """Makes a function an Attack."""

    def made(run: Run) -> Attack:
        return Attack(run.__name__, run, frozenset(right), short, needs_media, pipeline)

    return made


# --- raw bytes


def flood(target: Target, pieces: Iterable[bytes]) -> int:
    """Send until there is an answer or the server closes; the status of the answer."""
    with connection(target) as peer:
        send_all(peer, pieces)
        return status(peer)


def connection(target: Target, source: str = "127.0.0.1") -> socket.socket:
    """A new one, from this address of the loopback network."""
    address = ("127.0.0.1", target.server.port)
    return socket.create_connection(address, ANSWER_S, (source, 0))


def send_all(peer: socket.socket, pieces: Iterable[bytes]) -> bool:
    """False if the server answered or closed before all was sent."""
    try:
        for piece in pieces:
            if select.select([peer], [], [], 0)[0]:
                return False
            peer.sendall(piece)
    except OSError:
        return False
    return True


def status(peer: socket.socket) -> int:
    """Of the next answer, whose head it reads; CLOSED or SILENT if there is none."""
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            read = peer.recv(1)
            if not read:
                return CLOSED
            head += read
    except TimeoutError:
        return SILENT
    except OSError:
        return CLOSED
    length = re.search(rb"content-length: (\d+)", head.lower())
    left = int(length[1]) if length else 0
    while left > 0 and (read := peer.recv(left)):
        left -= len(read)
    return int(head.split()[1])


def repeated(piece: bytes, megabytes: float) -> Iterator[bytes]:
    """The piece again and again, in blocks of about 64 KB."""
    block = piece * max(1, (1 << 16) // len(piece))
    for _ in range(int(megabytes * MB) // len(block) + 1):
        yield block


def head(
    method: str = "GET", path: str = "/health", *fields: str, host: str = "127.0.0.1"
) -> bytes:
    """The head of a request without its last empty line."""
    lines = (f"{method} {path} HTTP/1.1", f"Host: {host}", *fields)
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


# --- files


def upload(target: Target, file: bytes | Path, name: str = "a.mp4", **more: bytes) -> int:
    """The status of POST /jobs with this file, and `more` files by their fields' names."""
    content = file.read_bytes() if isinstance(file, Path) else file
    files = {"file": (name, content), **{field: (field, part) for field, part in more.items()}}
    try:
        return target.server.http.post("/jobs", files=files, timeout=120.0).status_code
    except httpx.TransportError:
        return CLOSED


def small_upload(target: Target, source: str) -> int:
    """The status of a small JSON request to POST /jobs from this address: it needs a place."""
    client = http.client.HTTPConnection(
        "127.0.0.1", target.server.port, timeout=ANSWER_S, source_address=(source, 0)
    )
    try:
        client.request("POST", "/jobs", b"{}", {"Content-Type": "application/json"})
        return client.getresponse().status
    except (OSError, http.client.HTTPException):
        return CLOSED
    finally:
        client.close()
