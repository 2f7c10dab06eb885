"""The MAX_UPLOADS places for bodies that are being received: who holds them, and who loses one.

admission.py takes a place before a body is read, request_body.py counts its bytes. Several users
behind one proxy are one peer here: the rules below apply only while another peer wants a place.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from starlette.requests import Request

from errors import TooManyUploads

BEHIND_S = 10.0
"""A body so far behind MIN_UPLOAD_RATE loses its place to the next one, if all are taken."""
RETRY_AFTER_S = 5
WAITING_S = 2.0 * RETRY_AFTER_S
"""A peer that was refused is expected to ask again within this time."""


class UploadPlace:
    """One place. Times are those of the event loop's clock, in seconds."""

    def __init__(self, peer: str, min_rate: int, turn: asyncio.Lock) -> None:
        self.peer = peer
        self.min_rate = min_rate
        #: shared by all places
        self.turn = turn
        #: up to when the body would have been on time if it came at `min_rate`; at most now
        self.paid_until = 0.0
        #: ends the reading of the body; None before and after
        self.reading: anyio.CancelScope | None = None

    @contextmanager
    def read(self, now: float, reading: anyio.CancelScope) -> Iterator[None]:
        """Inside the block the body arrives, and may be given up."""
        self.paid_until, self.reading = now, reading
        try:
            yield
        finally:
            self.reading = None

    def received(self, size: int, now: float) -> None:
        earned_s = size / self.min_rate if self.min_rate else math.inf
        self.paid_until = min(now, self.paid_until + earned_s)

    def behind_s(self, now: float) -> float:
        """How late the body is; 0 unless it is being read and there is a minimum rate."""
        return now - self.paid_until if self.reading and self.min_rate else 0.0


class UploadPlaces:
    """All places. Used in the event loop only."""

    def __init__(self, limit: int, min_rate: int) -> None:
        self._limit = limit
        self._min_rate = min_rate
        self._taken: list[UploadPlace] = []
        self._turn = asyncio.Lock()
        self._waiting, self._waiting_since = "", -math.inf

    def __len__(self) -> int:
        return len(self._taken)

    @contextmanager
    def take(self, peer: str) -> Iterator[UploadPlace]:
        """A place until the end of the block. Raises TooManyUploads.

        A peer gets no more than half of them while another one was refused and may ask again.
        """
        now = asyncio.get_running_loop().time()
        held = sum(place.peer == peer for place in self._taken)
        has_share = held >= max(1, self._limit // 2)
        others_wait = self._waiting != peer and now - self._waiting_since < WAITING_S
        if (has_share and others_wait) or not self._may_take(now):
            if not has_share:
                self._waiting, self._waiting_since = peer, now
            raise TooManyUploads(
                f"{len(self._taken)} uploads are being received already.",
                max_uploads=self._limit,
                retry_after=RETRY_AFTER_S,
            )
        place = UploadPlace(peer, self._min_rate, self._turn)
        self._taken.append(place)
        try:
            yield place
        finally:
            if place in self._taken:
                self._taken.remove(place)

    def _may_take(self, now: float) -> bool:
        """Ends the body that is furthest behind, if all places are taken and it is late enough."""
        if len(self._taken) < self._limit:
            return True
        last = max(self._taken, key=lambda place: place.behind_s(now))
        if last.reading is None or last.behind_s(now) < BEHIND_S:
            return False
        self._taken.remove(last)
        last.reading.cancel()
        return True


def peer_of(request: Request) -> str:
    """The address that the connection comes from; of IPv6 the network, for a peer has all of it."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)
