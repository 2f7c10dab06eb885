"""One actor as the server sees it: what it runs, whether it answers, its last status.

Keeps what executors/ray.py receives, and calls nothing; the executor's lock guards it.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

from executors.ray_actor import ActorAnswer, ActorStatus, AttemptKey
from job.task import Progress, Task

ASK_EVERY_S = 2.0
"""How often an actor is asked for its status."""
TICK_S = 0.5
"""How often an actor that does not answer is asked."""


class ActorSlot:
    """`actor` is Ray's handle; `task` what it was given, and `call` the answer to come.

    Times are of the monotonic clock: `asked_at` is when the unanswered question was sent, None if
    there is none; `alive_at` when the last valid answer came, or the attempt started.
    """

    def __init__(self, number: int, actor: Any) -> None:
        self.number, self.actor = number, actor
        self.task: Task | None = None
        self.call: Future[ActorAnswer] | None = None
        self.cancel_deadline: float | None = None
        self.answers = False
        self.orphaned_attempt: AttemptKey | None = None
        self.status = ActorStatus()
        self.alive_at = 0.0
        self.asked_at: float | None = None
        self._is_suspect = False
        self._answered_at = 0.0  # when the last question was answered or failed
        self._valid_since = 0.0  # answers to earlier questions are ignored
        self._progress: Progress | None = None
        self._anchor: bytes | None = None

    @property
    def key(self) -> AttemptKey | None:
        return None if self.task is None else (self.task.job_id, self.task.attempt)

    @property
    def is_free(self) -> bool:
        return self.task is None and self._is_trusted and self.orphaned_attempt is None

    @property
    def _is_trusted(self) -> bool:
        return self.answers and not self._is_suspect

    def is_due(self, now: float) -> bool:
        wait_s = ASK_EVERY_S if self._is_trusted else TICK_S
        return self.asked_at is None and now - self._answered_at >= wait_s

    def take(self, task: Task) -> None:
        self.task, self.call, self.cancel_deadline = task, None, None
        self._progress = self._anchor = None
        self._valid_since = self.alive_at = time.monotonic()

    def release(self, *, lost: bool) -> None:
        """The task ended; after a loss the actor must answer before it gets the next one."""
        self.task, self.call, self.answers = None, None, not lost
        self._valid_since = time.monotonic()

    def mark_suspect(self) -> None:
        """Another actor is lost, maybe with its node: this one must answer before its next task."""
        self._is_suspect, self._valid_since = True, time.monotonic()

    def on_heartbeat(self, asked_at: float, status: ActorStatus | None) -> None:
        """The answer, or None if the call failed. Answers to old questions are ignored."""
        self.asked_at, self._answered_at = None, time.monotonic()
        if status is None:
            self.answers = False
        elif asked_at >= self._valid_since:
            self.answers, self._is_suspect = True, False
            self.status, self.alive_at = status, self._answered_at
            self.orphaned_attempt = status.key if status.key != self.key else None
            if status.key == self.key and status.progress is not None:
                self._progress = status.progress
                self._anchor = status.anchor or self._anchor

    def take_progress(self) -> tuple[Progress | None, bytes | None]:
        """The latest progress, once, and the anchor mesh, once."""
        latest = self._progress, self._anchor
        self._progress = self._anchor = None
        return latest
