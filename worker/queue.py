"""The queue: job ids in order, in memory, with places for those whose bodies are still arriving.

Each queued job is on disk in its own file; after a restart the worker fills the queue from there.
If the queue is full, a request is refused before its body is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from errors import Draining, QueueFull


class JobQueue:
    """Job ids in order; `on_change` is called after a job was added, and after `close`."""

    def __init__(self, limit: int, on_change: Callable[[], None] = lambda: None) -> None:
        self.limit = limit
        self._ids: list[str] = []
        self._reserved = 0
        self._closed = False
        self._lock = threading.Lock()
        self._on_change = on_change

    def reserve(self) -> None:
        """Hold a place; raises QueueFull or Draining. End it with `release` or `submit`."""
        with self._lock:
            if self._closed:
                raise Draining("The server is stopping and takes no new jobs.")
            waiting = len(self._ids) + self._reserved
            if waiting >= self.limit:
                raise QueueFull(
                    f"{waiting} jobs are waiting already.", queued=waiting, max_queue=self.limit
                )
            self._reserved += 1

    def release(self) -> None:
        with self._lock:
            self._reserved -= 1

    def submit(self, job_id: str, *, reserved: bool = True, first: bool = False) -> None:
        """Add a job at the end, or first; its reservation, if it has one, ends."""
        with self._lock:
            self._reserved -= reserved
            self._ids.insert(0, job_id) if first else self._ids.append(job_id)
        self._on_change()

    def take(self) -> str | None:
        """The next job; None if none waits, and once the queue is closed."""
        with self._lock:
            return self._ids.pop(0) if self._ids and not self._closed else None

    def remove(self, job_id: str) -> bool:
        """Take a waiting job out; False if it is not waiting (any more)."""
        with self._lock:
            if job_id not in self._ids:
                return False
            self._ids.remove(job_id)
            return True

    def position(self, job_id: str) -> int | None:
        """How many jobs are before this one; None if it is not waiting."""
        try:
            return self._ids.index(job_id)
        except ValueError:
            return None

    def ids(self) -> list[str]:
        return list(self._ids)

    def close(self) -> None:
        """No more jobs in or out."""
        with self._lock:
            self._closed = True
        self._on_change()
