"""What one connection may send, and for how long: the limits and timeouts below HTTP.

uvicorn limits only bodies. This is its protocol with every other byte counted, and with a problem
document for what exceeds a limit or is not HTTP. main.py uses it; request_body.py limits the bodies
that are read.
"""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import cast

import httptools
from uvicorn.protocols.http import httptools_impl as uvicorn_http

from api.hosts import take_host_of_target
from api.multipart import MAX_SMALL_BODY, too_large
from api.problems import problem
from api.unanswered import HEAD_BYTES, Unanswered
from errors import HeadTooLarge, MalformedRequest, ServiceError

HEAD_FIELDS = 100
"""Fields of the head and of the trailers together."""
REPLY_BYTES = 16_384
"""The application waits if a client has not read so much of what was written."""
CHUNK_BYTES = 262_144
"""Sizes, extensions and line ends of chunks, beyond an eighth of the body in them."""
QUEUED_REQUESTS = 8
"""Requests that wait until an earlier one on their connection is answered."""
READ_BYTES = 65_536
"""After a larger read, other connections are read before this one is again."""

HEAD_S = 30.0
"""From the first byte of a connection or request until its head is complete."""
LEFTOVER_S = 60.0
"""For the rest of a body after its reply: some clients read the reply only after sending all."""
LINGER_S = 5.0
"""For a client to read why it was refused: if it still sends, an early close loses the reply."""


class LimitedHttpProtocol(uvicorn_http.HttpToolsProtocol):
    """One connection. Ended by `transport.abort`, as `close` would wait for a peer that stalls."""

    _timer: asyncio.TimerHandle | None = None
    #: from the end of a head to the end of its message
    _in_body = False
    _is_chunked = False
    #: the head ended in the bytes that are being taken; the application has not seen it
    _is_new = False
    #: what still arrives is not parsed
    _refused = False
    #: the last reply was written
    _ended = False
    _fields = 0
    #: bytes since the head began, or since the last byte of the body
    _run_bytes = 0
    #: whether a head ended, and how many bytes of a body there were, in what was parsed last
    _head_ended = False
    _body_bytes = 0
    #: of a request whose method takes no body
    _dropped_bytes = 0
    _chunk_bytes = 0
    #: a head for the parser of a body that httptools has skipped
    _skipped_body = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the timer, for a peer that sends nothing at all."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(REPLY_BYTES)
        self._unanswered = Unanswered()
        replies_go_to = SimpleNamespace(
            write=transport.write,
            is_closing=lambda: self._ended or transport.is_closing(),
            close=self._end,
        )
        self._reply_transport = cast(asyncio.Transport, replies_go_to)
        self._start_timer(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._unanswered.end_all()
        super().connection_lost(exc)

    # --- bytes

    def data_received(self, data: bytes) -> None:
        self._is_new = False
        if not self._refused:
            self._unset_keepalive_if_required()
            if self._timer is None and not self._in_body and not self._unanswered:
                self._start_timer(HEAD_S)
            self._parse_or_refuse(data)
        elif not self._ended:
            self.flow.pause_reading()
        # paused already if the body that arrives is read more slowly
        if len(data) > READ_BYTES and not self.flow.read_paused:
            self.flow.pause_reading()
            self.loop.call_soon(self._read_on)

    def _parse_or_refuse(self, data: bytes) -> None:
        """Parse in pieces that end where a limit is reached."""
        try:
            while data and not self._refused:
                piece = data[: self._bytes_allowed(len(data))]
                data = data[len(piece) :]
                try:
                    self._parse(piece)
                except httptools.HttpParserUpgrade as end:
                    data = self._after_upgrade(piece[end.args[0] :] + data)
        except ServiceError as fault:
            self._refuse(fault)
        except httptools.HttpParserError as exc:
            cause = exc.__context__  # what one of the methods below raised
            invalid = MalformedRequest("This is no valid HTTP/1.1 request.")
            self._refuse(cause if isinstance(cause, ServiceError) else invalid)

    def _read_on(self) -> None:
        if not self.transport.is_closing() and (self._ended or not self._refused):
            self.flow.resume_reading()

    def _bytes_allowed(self, size: int) -> int:
        """How many of the next `size` bytes may be parsed. Raises HeadTooLarge."""
        if self._in_body and not self._is_chunked:
            return size
        limit = HEAD_BYTES if self._in_body else self._unanswered.head_limit
        room = limit - self._run_bytes - self._unanswered.waiting_bytes
        if room <= 0:
            raise HeadTooLarge(
                f"The head or the trailers have more than {limit} bytes.", max_bytes=limit
            )
        return room

    def _parse(self, piece: bytes) -> None:
        """Feed the parser, then count what neither ended a head nor was part of a body."""
        self._head_ended, self._body_bytes = False, 0
        self.parser.feed_data(piece)
        if self._head_ended or self._body_bytes:
            self._run_bytes = 0
        else:
            self._run_bytes += len(piece)
        if self._is_chunked and not self._head_ended:
            more = len(piece) - self._body_bytes - self._body_bytes // 8
            self._chunk_bytes = max(0, self._chunk_bytes + more)
            if self._chunk_bytes > CHUNK_BYTES:
                raise MalformedRequest("The chunks of the body are too small.")
        self._unanswered.incomplete(0 if self._in_body else self._run_bytes)

    def _after_upgrade(self, data: bytes) -> bytes:
        """What is left to parse after a request for an upgrade, which is answered without one."""
        if not self._skipped_body:
            self._take_no_more()  # bytes of another protocol
            return b""
        # httptools takes every upgrade for the end of the message; h2c may come with a body
        ended = SimpleNamespace(on_body=self.on_body, on_message_complete=self._upgrade_ended)
        self.parser = httptools.HttpRequestParser(ended)
        start, self._skipped_body = self._skipped_body, b""
        self.parser.feed_data(start)
        return data

    def _upgrade_ended(self) -> None:
        self.on_message_complete()
        self._take_no_more()

    # --- called by the parser

    def on_message_begin(self) -> None:
        if self._ended:
            raise MalformedRequest("The connection was to be closed after the last request.")
        super().on_message_begin()
        self._unanswered.begin()
        self._fields = self._dropped_bytes = 0
        self._start_timer(HEAD_S)

    def on_url(self, url: bytes) -> None:
        if self.parser.get_method() == b"PRI":  # for which the parser would wait for more
            raise MalformedRequest("This server does not speak HTTP/2.")
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailers, which are dropped."""
        self._fields += 1
        if self._fields > HEAD_FIELDS:
            raise HeadTooLarge(
                f"The head and the trailers have more than {HEAD_FIELDS} fields.",
                max_fields=HEAD_FIELDS,
            )
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete; reading the body has its own timeouts."""
        take_host_of_target(self.url, self.headers)
        self._stop_timer()
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # its clients do not know interim replies
        if len(self.pipeline) >= QUEUED_REQUESTS:
            raise MalformedRequest("Too many requests wait for a reply on this connection.")
        super().on_headers_complete()
        self.cycle.transport = self._reply_transport
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # we speak no other protocol: answered, then closed
            lengths = [name + b": " + value + b"\r\n" for name, value in self.headers
                       if name in (b"content-length", b"transfer-encoding")]  # fmt: skip
            if lengths:
                self._skipped_body = b"POST / HTTP/1.1\r\n" + b"".join(lengths) + b"\r\n"
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        self._unanswered.add(self.cycle, size)
        self._in_body = self._head_ended = self._is_new = True
        self._is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._chunk_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self.scope["method"] != "POST":  # no other method takes a body
            self._dropped_bytes += len(body)
            if self._dropped_bytes > MAX_SMALL_BODY:
                raise too_large(MAX_SMALL_BODY)
            return
        if not self.cycle.response_complete and (self._is_new or self.pipeline):
            self._unanswered.add_body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._skipped_body:
            return
        self._in_body = self._is_chunked = False
        self._stop_timer()
        super().on_message_complete()
        if self._ended:
            self.transport.close()
        elif self.cycle.response_complete:
            self._start_timer(HEAD_S)

    def _should_upgrade(self) -> bool:
        return False

    # --- replies

    def on_response_complete(self) -> None:
        """The reply is sent; bytes that still arrive belong to a body that was refused."""
        self._unanswered.first_is_answered()
        if self._ended:
            return
        super().on_response_complete()
        if self._in_body and self.cycle.response_complete and self._timer is None:
            self._start_timer(LEFTOVER_S)

    def _refuse(self, fault: ServiceError) -> None:
        """Answer the message that is arriving with `fault`, if it still can be, and close."""
        if self._ended:
            return
        answered = self._in_body and self.cycle.response_complete
        if self._in_body and not answered:
            broken = self._unanswered.end_last()
            if broken.response_started:
                self.transport.abort()
                return
        if not self._unanswered and not answered:
            self._write(fault)
        self._take_no_more()

    def _take_no_more(self) -> None:
        """Parse nothing more; close as soon as the requests before are answered."""
        self._refused = True
        self._stop_timer()
        if self._unanswered:
            self._unanswered.last.keep_alive = False
            self.flow.pause_reading()
        else:
            self._end()

    def _write(self, fault: ServiceError) -> None:
        """A problem document, as for every other error; the application never sees this request."""
        request_id = os.urandom(16).hex()
        reply = problem(
            fault,
            {"state": {"request_id": request_id}},
            {"Connection": "close", "X-Request-ID": request_id},
        )
        headers = (*self.server_state.default_headers, *reply.raw_headers)
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        status_line = uvicorn_http.STATUS_LINE[fault.status]
        self.transport.write(b"".join((status_line, *lines, b"\r\n", reply.body)))

    def _end(self) -> None:
        """Close the connection; a peer that still sends is first given time to read the reply."""
        if self._ended or self.transport.is_closing():
            return
        self._ended = True
        if not (self._in_body or self._refused):
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._start_timer(LINGER_S if self._refused else LEFTOVER_S)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._time_is_over)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_over(self) -> None:
        if self._unanswered and not self._ended:
            self._take_no_more()
        else:
            self.transport.abort()


def limit_all_connections() -> None:
    """For `uvicorn main:app`, which has chosen uvicorn's own protocol before it reads `app`.

    From now on that class makes connections of this one.
    """

    def limited(*_: object, **__: object) -> LimitedHttpProtocol:
        return object.__new__(LimitedHttpProtocol)

    uvicorn_http.HttpToolsProtocol.__new__ = limited  # type: ignore[method-assign,assignment]
