"""A real HTTP server whose replies the tests choose, mostly wrong ones.

For tests of the client: an answer is a function that gets the request's handler and may send half
a body, wrong data, or nothing. The last answer of an address is repeated.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Seen:
    """A received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class MisbehavingServer(ThreadingHTTPServer):
    """Answers by address; keeps what it has seen. Port 0 takes a free one."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Request)
        self.answers: dict[str, list[Answer]] = {}
        self.seen: list[Seen] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """No log lines for clients that disconnect."""

    def on(self, address: str, *answers: Answer) -> None:
        """`address` is a method and a path without its query, as in `GET /jobs/1`."""
        self.answers[address] = list(answers)

    def asked(self, address: str) -> list[Seen]:
        """The received requests of an address."""
        return [seen for seen in self.seen if f"{seen.method} {seen.path}" == address]


class Request(BaseHTTPRequestHandler):
    """One request, and the means to answer it."""

    protocol_version = "HTTP/1.1"
    server: MisbehavingServer

    def answer(self) -> None:
        """Read the body, note the request, give the next answer."""
        path = self.path.partition("?")[0]
        address = f"{self.command} {path}"
        answers = self.server.answers.get(address, [problem(404, "not_found")])
        if not getattr(answers[0], "before_body", False):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.server.seen.append(Seen(self.command, path, dict(self.headers), body))
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    do_GET = do_POST = do_DELETE = answer

    def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """A whole reply, or a part of one if `headers` promise more than `body` holds."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        """Close the connection."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """No log lines."""


Answer = Callable[[Request], None]


def reply(body: Mapping[str, Any], status: int = 200, **headers: str) -> Answer:
    """JSON; underscores in header names become hyphens."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: request.send(status, json.dumps(body).encode(), fields)


def problem(status: int, code: str, **headers: str) -> Answer:
    """A problem document."""
    body = {"code": code, "detail": f"About {code}.", "hint": "Do better.", "request_id": "r1"}
    return reply(body, status, **headers)


def content(whole: bytes, sent: slice = slice(None), status: int = 200, **headers: str) -> Answer:
    """Bytes of a file; a slice that ends early breaks the connection there."""

    def give(request: Request) -> None:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        length = str(len(whole) - (sent.start or 0))
        request.send(status, whole[sent], {"Content-Length": length, **fields})
        if sent.stop is not None:
            request.hang_up()

    return give


def events(*chunks: bytes) -> Answer:
    """A stream of server-sent events that ends, without a length, after the last chunk."""

    def give(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        for chunk in chunks:
            request.wfile.write(chunk)
        request.hang_up()

    return give


@contextmanager
def misbehaving_server(port: int = 0) -> Iterator[MisbehavingServer]:
    """Serve on a thread until the block ends."""
    server = MisbehavingServer(port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
