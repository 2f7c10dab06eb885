"""One actor as the server sees it: what it runs, whether it answers, what it told last.

Keeps what executors/ray.py hears, and calls nothing; guarded by a lock of the executor.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

from executors.ray_actor import ActorAnswer, ActorStatus, AttemptKey
from job.task import Progress, Task

ASK_EVERY_S = 2.0
"""How often an actor is asked for its status: 0.5 Hz."""
TICK_S = 0.5
"""How often one that does not answer is."""


class ActorSlot:
    """`actor` is Ray's handle; `task` what it was given, and `call` the answer to come.

    Times are those of the monotonic clock: `asked_at` of the open question, None if there is none;
    `heard_at` of the last sign of life that counts, the start of an attempt included.
    """

    def __init__(self, number: int, actor: Any) -> None:
        self.number, self.actor = number, actor
        self.task: Task | None = None
        self.call: Future[ActorAnswer] | None = None
        self.cancel_deadline: float | None = None
        self.answers = False
        self.orphaned_attempt: AttemptKey | None = None
        self.status = ActorStatus(pid=0)
        self.heard_at = 0.0
        self.asked_at: float | None = None
        self._is_suspect = False
        self._answered_at = 0.0  # the last question, however it ended
        self._since = 0.0  # answers to questions before that do not count
        self._progress: Progress | None = None
        self._anchor: bytes | None = None

    @property
    def key(self) -> AttemptKey | None:
        """The attempt that it was given."""
        return None if self.task is None else (self.task.job_id, self.task.attempt)

    @property
    def is_free(self) -> bool:
        """True if it may be given a task."""
        return self.task is None and self._is_trusted and self.orphaned_attempt is None

    @property
    def _is_trusted(self) -> bool:
        return self.answers and not self._is_suspect

    def is_due(self, now: float) -> bool:
        """True if it should be asked for its status."""
        wait_s = ASK_EVERY_S if self._is_trusted else TICK_S
        return self.asked_at is None and now - self._answered_at >= wait_s

    def take(self, task: Task) -> None:
        """It is given this task."""
        self.task, self.call, self.cancel_deadline = task, None, None
        self._progress = self._anchor = None
        self._since = self.heard_at = time.monotonic()

    def release(self, *, lost: bool) -> None:
        """After a loss it must answer before it gets the next task."""
        self.task, self.call, self.answers = None, None, not lost
        self._since = time.monotonic()

    def mark_suspect(self) -> None:
        """Another actor is lost, maybe with its node: this one must answer before its next task."""
        self._is_suspect, self._since = True, time.monotonic()

    def on_heartbeat(self, asked_at: float, status: ActorStatus | None) -> None:
        """An answer, or None where the actor is away. Answers to old questions do not count."""
        self.asked_at, self._answered_at = None, time.monotonic()
        if status is None:
            self.answers = False
        elif asked_at >= self._since:
            self.answers, self._is_suspect = True, False
            self.status, self.heard_at = status, self._answered_at
            self.orphaned_attempt = status.key if status.key != self.key else None
            if status.key == self.key and status.progress is not None:
                self._progress = status.progress
                self._anchor = status.anchor or self._anchor

    def take_progress(self) -> tuple[Progress | None, bytes | None]:
        """The latest progress, once, and the anchor mesh, once."""
        told = self._progress, self._anchor
        self._progress = self._anchor = None
        return told
