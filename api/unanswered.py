"""The requests of one connection whose replies are not sent, and what all connections hold of them.

http_protocol.py adds each head and body here, and asks what it may still accept. One connection has
its own limits; these are for many connections that each hold a little.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.multipart import too_large
from api.upload_places import RETRY_AFTER_S
from errors import TooManyUploads

HEAD_BYTES = 65_536
"""Request line and fields together. Also the trailers, each gap between pieces of a body, and all
requests of a connection that wait for their turn.
"""
ALL_HELD_BYTES = 8 << 20
"""If the heads of all connections, and the bodies of requests that wait for their turn, are larger
together, each connection may add CROWDED_BYTES only.
"""
ALL_BODIES_BYTES = 8 << 20
"""If more of all bodies arrives before the application asks for it, no larger body is accepted."""
CROWDED_BYTES = 8192


@dataclass
class _Request:
    """Sizes in bytes. `held`: its head, and its body while it waits for its turn. `body`: what came
    of its body together with the head, if it is the first.
    """

    cycle: RequestResponseCycle
    held: int
    body: int = 0


class Unanswered:
    """Those of one connection, in their order; the first is being answered."""

    _all_held: ClassVar[int] = 0
    _all_bodies: ClassVar[int] = 0

    def __init__(self) -> None:
        self._requests: deque[_Request] = deque()
        #: of the head that is incomplete
        self._incomplete = 0
        #: of the head of the last answered request: uvicorn keeps it until the next begins
        self._answered = 0
        #: this connection's shares of _all_held and _all_bodies
        self._counted = (0, 0)

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def last(self) -> RequestResponseCycle:
        return self._requests[-1].cycle

    @property
    def head_limit(self) -> int:
        """How long a head may be at present, together with what waits, in bytes."""
        return CROWDED_BYTES if self._all_held > ALL_HELD_BYTES else HEAD_BYTES

    @property
    def waiting_bytes(self) -> int:
        """Of the requests that wait for their turn: all but the first."""
        return sum(request.held for request in self._requests) - (
            self._requests[0].held if self._requests else 0
        )

    def begin(self) -> None:
        self._answered = 0

    def incomplete(self, size: int) -> None:
        """The size of the head that is incomplete; 0 if there is none."""
        self._incomplete = size
        self._count()

    def add(self, cycle: RequestResponseCycle, head_bytes: int) -> None:
        self._requests.append(_Request(cycle, head_bytes))
        self._count()

    def add_body(self, size: int) -> None:
        """Of the last request, before it is read. Raises UploadTooLarge, TooManyUploads."""
        request = self._requests[-1]
        if len(self._requests) > 1:
            request.held += size
            limit = self.head_limit
            if self.waiting_bytes > limit:
                raise too_large(limit)
        else:
            request.body += size
        self._count()
        if request.body > CROWDED_BYTES and self._all_bodies > ALL_BODIES_BYTES:
            raise TooManyUploads("Too many bodies arrive at once.", retry_after=RETRY_AFTER_S)

    def first_is_answered(self) -> None:
        """Its body is dropped, if the application did not read it."""
        request = self._requests.popleft()
        request.cycle.body.clear()
        self._answered = request.held
        self._count()

    def end_last(self) -> RequestResponseCycle:
        """Remove it; its application sees that the client is gone."""
        request = self._requests.pop()
        request.cycle.disconnected = True
        request.cycle.message_event.set()
        self._count()
        return request.cycle

    def end_all(self) -> None:
        """The connection is lost. uvicorn tells only the last request."""
        while self._requests:
            self.end_last()
        self._answered = self._incomplete = 0
        self._count()

    def _count(self) -> None:
        held = sum(request.held for request in self._requests) + self._incomplete + self._answered
        bodies = sum(request.body for request in self._requests)
        Unanswered._all_held += held - self._counted[0]
        Unanswered._all_bodies += bodies - self._counted[1]
        self._counted = held, bodies
