"""Timeouts below HTTP: for the head of a request, and for the rest of a body that was refused.

uvicorn waits for both without limit. This is its protocol with two timeouts, and with a problem
document for bytes that are not HTTP. `python main.py` uses it; with `uvicorn main:app` a reverse
proxy must do the same. request_body.py has the timeouts of a body that is being read.
"""

from __future__ import annotations

import asyncio
import os

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.hosts import take_host_of_target
from api.problems import problem
from errors import MalformedRequest

HEAD_S = 30.0
"""From the first byte of a connection or request until its head is complete."""
LEFTOVER_S = 60.0
"""For the rest of a body after its reply: some clients read the reply only after sending all."""


class TimeoutHttpProtocol(HttpToolsProtocol):
    """One connection. Ended by `transport.abort`, as `close` would wait for a peer that stalls."""

    _timer: asyncio.TimerHandle | None = None
    _in_message = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the timer, for a peer that sends nothing at all."""
        super().connection_made(transport)
        self._start_timer(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = True
        self._start_timer(HEAD_S)

    def on_headers_complete(self) -> None:
        """The head is complete; reading the body has its own timeouts."""
        take_host_of_target(self.url, self.headers)
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The reply is sent; bytes that still arrive belong to a body that was refused."""
        super().on_response_complete()
        if self._in_message and self._timer is None:
            self._start_timer(LEFTOVER_S)

    def send_400_response(self, _msg: str) -> None:
        """A problem document, as for every other error; the application never sees this request."""
        request_id = os.urandom(16).hex()
        reply = problem(
            MalformedRequest("This is no valid HTTP/1.1 request."),
            {"state": {"request_id": request_id}},
            {"Connection": "close", "X-Request-ID": request_id},
        )
        headers = [name + b": " + value + b"\r\n" for name, value in reply.raw_headers]
        self.transport.write(b"".join((STATUS_LINE[400], *headers, b"\r\n", reply.body)))
        self.transport.close()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
