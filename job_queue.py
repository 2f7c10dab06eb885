"""The queue: job ids in order, in memory, with places for those whose bodies are still arriving.

What is queued is on disk in each job's own file; after a restart the worker fills the queue from
there. Full means refused before a body is read.
"""

from __future__ import annotations

import threading

from errors import Draining, QueueFull


class JobQueue:
    """Job ids in order, with places reserved for those whose bodies are still arriving."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._ids: list[str] = []
        self._reserved = 0
        self._closed = False
        self._changed = threading.Condition()

    def reserve(self) -> None:
        """Hold a place; raises QueueFull or Draining. Give it up with `release` or `submit`."""
        with self._changed:
            if self._closed:
                raise Draining("The server is stopping and takes no new jobs.")
            waiting = len(self._ids) + self._reserved
            if waiting >= self.limit:
                raise QueueFull(
                    f"{waiting} jobs are waiting already.", queued=waiting, max_queue=self.limit
                )
            self._reserved += 1

    def release(self) -> None:
        """Give a reserved place up."""
        with self._changed:
            self._reserved -= 1

    def submit(self, job_id: str, *, reserved: bool = True, first: bool = False) -> None:
        """Append (or put first) a job; uses up the reservation that was made for it."""
        with self._changed:
            self._reserved -= reserved
            self._ids.insert(0, job_id) if first else self._ids.append(job_id)
            self._changed.notify()

    def take(self, timeout_s: float) -> str | None:
        """The next job, or None after the time is over or once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ids or self._closed, timeout_s)
            return self._ids.pop(0) if self._ids and not self._closed else None

    def remove(self, job_id: str) -> bool:
        """Take a waiting job out; False if it is not waiting (any more)."""
        with self._changed:
            if job_id not in self._ids:
                return False
            self._ids.remove(job_id)
            return True

    def position(self, job_id: str) -> int | None:
        """How many jobs stand before this one; None if it is not waiting."""
        try:
            return self._ids.index(job_id)
        except ValueError:
            return None

    def ids(self) -> list[str]:
        """The waiting jobs, in order."""
        return list(self._ids)

    def close(self) -> None:
        """No more jobs in or out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
