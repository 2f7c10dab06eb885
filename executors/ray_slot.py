"""One actor as the server sees it: what it runs, whether it answers, its last status.

Keeps what executors/ray.py receives, and calls nothing.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from executors.base import SlotStatus
from executors.ray_actor import ActorAnswer, ActorStatus, AttemptKey
from job.task import Task

ASK_EVERY_S = 2.0
"""How often an actor is asked for its status."""
ASK_AGAIN_S = 0.5
"""How often an actor that does not answer is asked."""


@dataclass
class ActorSlot:
    """`actor` is Ray's handle; `task` what it was given, and `call` the answer to come.

    `question` is the status to come, None if no question is open; it was asked at `asked_at`. The
    actor last answered, or got its task, at `alive_at`. All times are on the monotonic clock.
    """

    number: int
    actor: Any
    task: Task | None = None
    call: Future[ActorAnswer] | None = None
    cancel_deadline: float | None = None
    question: Future[ActorStatus] | None = None
    asked_at: float = 0.0
    alive_at: float = 0.0
    status: ActorStatus = ActorStatus()
    answers: bool = False
    orphaned_attempt: AttemptKey | None = None
    _is_suspect: bool = False
    _answered_at: float = 0.0  # when the last question was answered or failed
    _valid_since: float = 0.0  # answers to earlier questions are ignored

    @property
    def key(self) -> AttemptKey | None:
        return None if self.task is None else (self.task.job_id, self.task.attempt)

    @property
    def is_free(self) -> bool:
        return self.task is None and self._is_trusted and self.orphaned_attempt is None

    @property
    def _is_trusted(self) -> bool:
        return self.answers and not self._is_suspect

    @property
    def summary(self) -> SlotStatus:
        """What the actor said last; if it does not answer it is neither ready nor unloaded."""
        status = self.status
        if not self.answers:
            status = replace(status, is_ready=False, is_unloaded=False)
        is_busy = self.task is not None
        return SlotStatus(self.number, status, is_busy=is_busy, is_lost=not self.answers)

    def is_due(self, now: float) -> bool:
        is_settled = self._is_trusted and self.orphaned_attempt is None
        wait_s = ASK_EVERY_S if is_settled else ASK_AGAIN_S
        return self.question is None and now - self._answered_at >= wait_s

    def take(self, task: Task) -> None:
        self.task, self.call, self.cancel_deadline = task, None, None
        self._valid_since = self.alive_at = time.monotonic()

    def release(self, *, lost: bool) -> None:
        """The task ended; after a loss the actor must answer before it gets the next one."""
        self.task, self.call, self.answers = None, None, not lost
        self._valid_since = time.monotonic()

    def mark_suspect(self) -> None:
        """Another actor is lost, maybe with its node: this one must answer before its next task."""
        self._is_suspect, self._valid_since = True, time.monotonic()

    def on_heartbeat(self, asked_at: float, status: ActorStatus | None) -> ActorStatus | None:
        """Keep the answer, None if the call failed; returned if it is about the slot's task.

        Answers to questions that were asked before the last change are ignored.
        """
        self.question, self._answered_at = None, time.monotonic()
        if status is None:
            self.answers = False
        elif asked_at >= self._valid_since:
            self.answers, self._is_suspect = True, False
            self.status, self.alive_at = status, self._answered_at
            self.orphaned_attempt = status.key if status.key != self.key else None
            return status if status.key == self.key else None
        return None
