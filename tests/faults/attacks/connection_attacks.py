"""Attacks by many connections, of which each does little: one function each."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.api.bodies import frames_zip
from tests.faults.attacks.attack import TOO_LONG, Target, attack, flood, head, send_all, upload

CONNECTIONS = 600
"""Below the 1,024 descriptors that many systems allow; one costs up to 80 KB, whatever it does."""
END = b"\r\n"


@attack(200)
def downloads_that_nobody_reads(target: Target) -> Iterator[int]:
    """Each connection asks for the largest file nine times."""
    (job_id,) = _jobs(target, 1)
    state = target.server.http.get(f"/jobs/{job_id}", params={"wait": 55}, timeout=90.0).json()
    largest = max(state["files"], key=lambda file: file["bytes"])["name"]
    with _all_send(target, (head(path=f"/outputs/{job_id}/{largest}") + END) * 9):
        yield flood(target, [head(), END])


@attack(200, *TOO_LONG)
def long_heads_of_requests_that_wait(target: Target) -> Iterator[int]:
    """A stream of events that does not end, and seven requests behind it."""
    events = head("GET", f"/jobs/{_jobs(target, 12)[-1]}/events", "X: " + "a" * 60_000) + END
    behind = head("GET", "/health", "X: " + "a" * 8000) + END
    with _all_send(target, events + behind * 7):
        yield flood(target, [head(), END])


@attack(200)
def bodies_before_anybody_reads_them(target: Target) -> Iterator[int]:
    """300 KB on each connection, together with the head."""
    start = head("POST", f"/jobs/{_jobs(target, 1)[0]}/cancel", "Content-Length: 9999999") + END
    with _all_send(target, start + bytes(300_000)):
        yield flood(target, [head(), END])


@attack(200)
def streams_that_are_left_at_once(target: Target) -> Iterator[int]:
    """A stream of events with a request behind it, closed, 600 times."""
    events = head("GET", f"/jobs/{_jobs(target, 12)[-1]}/events", "X: " + "a" * 50_000) + END
    for _ in range(CONNECTIONS):
        with socket.create_connection(("127.0.0.1", target.server.port), 40.0) as peer:
            peer.sendall(events + head() + END)
            peer.recv(1)
    yield flood(target, [head(), END])


@attack(200)
def long_replies_that_nobody_reads(target: Target) -> Iterator[int]:
    """Nine requests for /docs and /openapi.json on each connection."""
    asked = head(path="/docs") + END + head(path="/openapi.json") + END
    with _all_send(target, asked * 4 + head() + END):
        yield flood(target, [head(), END])


def _jobs(target: Target, count: int) -> list[str]:
    """The ids of new jobs, in the order in which they will run."""
    clip = frames_zip(24, 64)
    assert all(upload(target, clip, "walk.zip") == 202 for _ in range(count))
    return [job["job_id"] for job in target.server.http.get("/jobs").json()["jobs"]][
        count - 1 :: -1
    ]


@contextmanager
def _all_send(target: Target, content: bytes) -> Iterator[None]:
    """The same on every connection, of which nothing is read.

    Ten at a time: the question is what the server holds of them, not how many it serves a second.
    """
    with ExitStack() as opened:
        for number in range(CONNECTIONS):
            if number % 10 == 0:
                flood(target, [head(), END])
            peer = opened.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.settimeout(40.0)
            peer.connect(("127.0.0.1", target.server.port))
            send_all(peer, [content])
        yield
