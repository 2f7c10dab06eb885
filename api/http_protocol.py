"""Patience with slow clients below HTTP: half a request, and bodies that nobody reads any more.

uvicorn waits for ever for the rest of a request's head, and for the rest of a body that was
already refused. This is its protocol with two deadlines, and with our own words for what is no
HTTP. `python main.py` serves with it; behind `uvicorn main:app` a reverse proxy must do the same.
Bodies being read are request_body.py's to time.
"""

from __future__ import annotations

import asyncio
import os

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.problems import problem
from errors import MalformedRequest

HEAD_S = 30.0
"""From the first byte of a connection or request until its head is complete."""
LEFTOVER_S = 60.0
"""For the rest of a body after its reply: long enough for a client that reads only afterwards."""


class TimeoutHttpProtocol(HttpToolsProtocol):
    """One connection. `transport.abort` because a peer that stalls would stall the close too."""

    _deadline: asyncio.TimerHandle | None = None
    _in_message = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer that never says anything is cut off as well."""
        super().connection_made(transport)
        self._arm(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer outlives its connection."""
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_message = True
        self._arm(HEAD_S)

    def on_headers_complete(self) -> None:
        """The head is here; the body's reader has its own patience."""
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._in_message = False
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Replied; what is still arriving belongs to a body that was refused."""
        super().on_response_complete()
        if self._in_message and self._deadline is None:
            self._arm(LEFTOVER_S)

    def send_400_response(self, _msg: str) -> None:
        """A problem document, as for every other mistake; the application never sees this one."""
        request_id = os.urandom(16).hex()
        reply = problem(
            MalformedRequest("This is no valid HTTP/1.1 request."),
            {"state": {"request_id": request_id}},
            {"Connection": "close", "X-Request-ID": request_id},
        )
        headers = [name + b": " + value + b"\r\n" for name, value in reply.raw_headers]
        self.transport.write(b"".join((STATUS_LINE[400], *headers, b"\r\n", reply.body)))
        self.transport.close()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._cut)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        self._deadline = None
        self.transport.abort()
