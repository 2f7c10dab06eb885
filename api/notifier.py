"""Wakes the requests that wait for a job to change: long polls and event streams.

The store calls `changed` in whichever thread made a change; waiters are in the event loop. Nothing
here polls, and nothing is stored for jobs without a waiter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio

from job.state import Job

_QUEUE = "the queue"


class JobChangeNotifier:
    """Which requests wait for which job. Any thread may call `changed`, only the loop the rest.

    `watchers` holds the events of the waiting requests by job id.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.watchers: dict[str, set[asyncio.Event]] = {}

    def wake_all(self) -> None:
        """The server is stopping: no request may wait any longer."""
        for name in self.watchers:
            self._wake(name)

    def changed(self, job: Job) -> None:
        """One of the store's listeners: called after the change can be read."""
        self._notify(job.job_id)
        if job.status.is_terminal or job.progress is None:
            self._notify(_QUEUE)  # more than progress: positions in the queue may have changed

    def _notify(self, name: str) -> None:
        if self._loop is None or name not in self.watchers:
            return
        with suppress(RuntimeError):  # the loop has been closed, so nothing waits any more
            self._loop.call_soon_threadsafe(self._wake, name)

    def _wake(self, name: str) -> None:
        for event in self.watchers.get(name, ()):
            event.set()

    @contextmanager
    def watch(self, job_id: str, *, with_queue: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set after every change of this job (and of the queue).

        Clear it, then read the job, then wait: a change between reading and waiting is not missed.
        """
        self._loop = asyncio.get_running_loop()
        event = asyncio.Event()
        names = (job_id, _QUEUE) if with_queue else (job_id,)
        for name in names:
            self.watchers.setdefault(name, set()).add(event)
        try:
            yield event
        finally:
            for name in names:
                watchers = self.watchers[name]
                watchers.discard(event)
                if not watchers:
                    del self.watchers[name]


async def wait_until(event: asyncio.Event, deadline: float) -> bool:
    """True if the event was set before the loop's clock reached `deadline`."""
    with anyio.move_on_after(deadline - asyncio.get_running_loop().time()):
        await event.wait()
    return event.is_set()
