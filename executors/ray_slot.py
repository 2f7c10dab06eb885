"""One actor as the server sees it: what it runs, whether it answers, what it told last.

Keeps what executors/ray.py hears, and calls nothing; guarded by a lock of the executor.
"""

from __future__ import annotations

import time
from typing import Any

from executors.ray_actor import Key

LOOK_EVERY_S = 2.0
"""How often an actor is asked how it stands: 0.5 Hz."""
TICK_S = 0.5
"""How often one that does not answer is."""


class Seat:
    """`actor` is Ray's handle; `key` the attempt it was given, None if none.

    Times are those of the monotonic clock: `asked_at` of the open question, None if there is none;
    `heard_at` of the last sign of life that counts, the start of an attempt included.
    """

    def __init__(self, number: int, actor: Any) -> None:
        self.number, self.actor = number, actor
        self.key: Key | None = None
        self.answers = False
        self.stray: Key | None = None
        self.seen: dict[str, Any] = {}
        self.heard_at = 0.0
        self.asked_at: float | None = None
        self._is_doubted = False
        self._answered_at = 0.0  # the last question, however it ended
        self._since = 0.0  # answers to questions before that do not count
        self._news: dict[str, Any] | None = None
        self._anchor: bytes | None = None

    @property
    def is_free(self) -> bool:
        """True if it may be given a task."""
        return self.key is None and self._is_trusted and self.stray is None

    @property
    def _is_trusted(self) -> bool:
        return self.answers and not self._is_doubted

    def is_due(self, now: float) -> bool:
        """True if it should be asked how it stands."""
        wait_s = LOOK_EVERY_S if self._is_trusted else TICK_S
        return self.asked_at is None and now - self._answered_at >= wait_s

    def take(self, key: Key) -> None:
        """It is given this attempt."""
        self.key, self._news, self._anchor = key, None, None
        self._since = self.heard_at = time.monotonic()

    def release(self, *, lost: bool) -> None:
        """After a loss it must answer before it gets the next task."""
        self.key, self.answers = None, not lost
        self._since = time.monotonic()

    def doubt(self) -> None:
        """Another actor is lost, maybe with its node: this one must answer before its next task."""
        self._is_doubted, self._since = True, time.monotonic()

    def hear(self, asked_at: float, seen: dict[str, Any] | None) -> None:
        """An answer, or None where the actor is away. Answers to old questions do not count."""
        self.asked_at, self._answered_at = None, time.monotonic()
        if seen is None:
            self.answers = False
        elif asked_at >= self._since:
            self.answers, self._is_doubted = True, False
            self.seen, self.heard_at = seen, self._answered_at
            key = tuple(seen["key"]) if seen["key"] else None
            self.stray = key if key != self.key else None
            if key == self.key and "progress" in seen:
                self._news = seen["progress"]
                self._anchor = seen.get("anchor") or self._anchor

    def news(self) -> tuple[dict[str, Any] | None, bytes | None]:
        """The latest progress, once, and the anchor mesh, once."""
        told = self._news, self._anchor
        self._news = self._anchor = None
        return told
