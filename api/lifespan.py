"""What happens when the server starts and stops: parts opened in order, closed in reverse.

main.create_app gives `lifespan` to FastAPI. The parts themselves are made there, not here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI

from api.app_state import AppState
from job.state import Job

log = logging.getLogger(__name__)

JOB_GRACE_S = 5.0
"""How long running jobs may take to end after the server was asked to stop."""
DESCRIPTORS = 16_384
THREADS = 32
"""For disk and ffmpeg: a slow disk or eight uploads being probed must not delay other requests."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the store, run the worker and retention, and end all of it in order."""
    state: AppState = app.state.app_state
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="io"))
    _announce(state)
    _allow_many_connections()
    state.open_store()
    state.webhooks.open()
    state.store.listeners += [state.changes.changed, state.webhooks.changed, state.metrics.changed]
    state.worker.after_recovery = lambda waiting: _resume(loop, state, waiting)
    state.worker.start()
    background = [
        loop.create_task(state.retention.run(state.sweep_soon)),
        loop.create_task(state.storage.run()),
    ]
    restore_signals = _drain_on_signals(loop, state)
    try:
        yield
    finally:
        restore_signals()
        state.drain()
        for task in background:
            task.cancel()
        await state.fetcher.close()
        await state.webhooks.close()
        await asyncio.to_thread(state.worker.stop, JOB_GRACE_S)
        state.store.close()
        log.info("stopped")


def _announce(state: AppState) -> None:
    settings, choice = state.settings, state.choice
    log.info("pipeline %s: %s", choice.name, choice.reason)
    if not settings.api_keys and not settings.bound_to_loopback:
        log.warning(
            "NO API_KEY IS SET and %s is not a loopback address: everyone who can reach this "
            "server can use it",
            settings.host,
        )


def _resume(loop: asyncio.AbstractEventLoop, state: AppState, waiting: list[Job]) -> None:
    """Continue the last server's downloads and webhooks. Called in the worker's thread."""
    state.metrics.recovered()
    loop.call_soon_threadsafe(state.recovered.set)
    for job in waiting:
        loop.call_soon_threadsafe(partial(state.fetcher.begin, job.job_id, reserved=False))
    asyncio.run_coroutine_threadsafe(state.webhooks.resume(), loop)


def _allow_many_connections() -> None:
    """Most shells allow 1,024 open descriptors by default: too few for a thousand long polls."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _drain_on_signals(loop: asyncio.AbstractEventLoop, state: AppState) -> Callable[[], None]:
    """Drain as soon as the signal comes, before uvicorn waits for open replies to end.

    Long polls and event streams would delay the stop until their own end. uvicorn's handlers run
    after ours. Returns a function that removes ours.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(state.drain)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return restore
