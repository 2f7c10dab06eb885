"""Wiring, and nothing else: settings -> store, worker, routes -> one FastAPI app.

`python main.py` serves on HOST and PORT; `uvicorn main:app` works too (its --host and --port win).
Nothing happens at import: `app` is made when somebody asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

import logs
from api import docs_page, events, openapi, outputs, page, problems, status, submissions
from api import jobs as job_routes
from api.app_state import VERSION, AppState
from api.http_protocol import TimeoutHttpProtocol
from api.security import SecurityMiddleware
from executors.base import Executor, ExecutorOptions
from executors.local import LocalExecutor
from job.folder import JobsFolderError
from job.state import Job
from job.task import ChildConfig
from job_store import JobStore
from pipeline import PipelineChoice, choose_pipeline, find_gpu
from settings import Settings, SettingsError
from worker.fetching import Fetcher
from worker.loop import Worker
from worker.retention import SWEEP_EVERY_S, Retention

log = logging.getLogger(__name__)

EXIT_MISCONFIGURED = 2
OPEN_PATHS = ("/", "/health", "/ready", "/client.py", "/docs.css")
SILHOUETTE_MEMORY_MB = 4096
"""A job takes some 500 MB; one that wants more than this ends its child, not the machine."""
REPLY_GRACE_S = 3
"""How long replies under way may take once the server was told to stop."""
JOB_GRACE_S = 5.0
DESCRIPTORS = 16_384
THREADS = 32
"""For disk and ffmpeg: a slow disk or eight uploads being looked into must not starve the rest."""


def create_app(settings: Settings, executor: Executor | None = None) -> FastAPI:
    """A whole server, not yet started. Tests pass settings and an executor of their own."""
    choice = choose_pipeline(settings.pipeline, find_gpu())
    if settings.ray_address:
        choice = replace(choice, elsewhere=True)
    executor = executor or _executor(settings, choice)
    store = JobStore(settings.jobs_dir)
    worker = Worker(store, executor, max_queue=settings.max_queue, keep_input=settings.keep_input)
    state = AppState(settings, choice, store, worker, Fetcher(store, worker, settings))

    app = FastAPI(
        title="ActionMesh Worker",
        description="A short video of one moving subject in, an animated 3D mesh out.",
        version=VERSION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.app_state = state
    files = page.kept_files()
    app.add_middleware(
        SecurityMiddleware, settings=settings, open_paths=frozenset((*OPEN_PATHS, *files))
    )
    routers = (
        status.router,
        submissions.router,
        job_routes.router,
        events.router,
        outputs.router,
        docs_page.router,
        page.page_router(files),
    )
    problems.install(app, routers)
    for router in routers:
        app.router.routes += router.routes  # include_router wraps them, at 20 us a request
        _answer_head(app, router)
    openapi.complete(app)
    return app


def _executor(settings: Settings, choice: PipelineChoice) -> Executor:
    """One child on this machine, or, where RAY_ADDRESS is set, actors on a cluster."""
    options = ExecutorOptions(
        ChildConfig(
            choice.name,
            settings.log_format,
            memory_mb=SILHOUETTE_MEMORY_MB if choice.name == "silhouette" else 0,
            blender_path=str(settings.blender_path or ""),
            environment=settings.child_environment(with_paths=not settings.ray_address),
        ),
        job_timeout_s=settings.job_timeout,
        idle_unload_s=settings.idle_unload_seconds,
        # not on a cluster: an actor is given its next job when the last one's files have gone
        separate_files=choice.name == "actionmesh" and not settings.ray_address,
    )
    if not settings.ray_address:
        return LocalExecutor(options)
    from executors.ray import RayExecutor  # only here: without Ray it must cost nothing

    if importlib.util.find_spec("ray") is None:
        raise SettingsError(
            "RAY_ADDRESS is set, but the package ray is missing: "
            "pip install -r requirements-ray.txt"
        )
    return RayExecutor(settings.ray_address, options, settings.gpu_workers)


def _answer_head(app: FastAPI, router: APIRouter) -> None:
    """What can be got can be asked about; only event streams have no head without a body."""
    for route in router.routes:
        if (
            isinstance(route, APIRoute)
            and "GET" in (route.methods or ())
            and "events" not in route.path
        ):
            app.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the store, run the worker and the housekeeping, and end all of it in order."""
    state: AppState = app.state.app_state
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="io"))
    _announce(state)
    _allow_many_connections()
    state.open_store()
    state.changes.open()
    state.webhooks.open()
    state.store.listeners += [
        state.changes.changed,
        state.webhooks.changed,
        state.metrics.changed,
    ]
    state.worker.after_recovery = lambda waiting: _resume(loop, state, waiting)
    state.worker.start()
    housekeeping = loop.create_task(_keep_house(state))
    restore_signals = _drain_on_signals(loop, state)
    try:
        yield
    finally:
        restore_signals()
        state.drain()
        housekeeping.cancel()
        await state.fetcher.close()
        await state.webhooks.close()
        await asyncio.to_thread(state.worker.stop, JOB_GRACE_S)
        state.store.close()
        log.info("stopped")


def _resume(loop: asyncio.AbstractEventLoop, state: AppState, waiting: list[Job]) -> None:
    """What the last server left to the loop: downloads and deliveries. In the worker's thread."""
    state.metrics.recovered()
    loop.call_soon_threadsafe(state.recovered.set)
    for job in waiting:
        loop.call_soon_threadsafe(
            functools.partial(state.fetcher.begin, job.job_id, reserved=False)
        )
    asyncio.run_coroutine_threadsafe(state.webhooks.resume(), loop)


async def _keep_house(state: AppState) -> None:
    """Sweep now and then, and soon after a job was deleted."""
    retention = Retention(state.store, state.settings)
    while True:
        state.sweep_soon.clear()
        try:
            await asyncio.to_thread(retention.sweep)
        except OSError:
            log.exception("the sweep failed; the next one tries again")
        try:
            await asyncio.wait_for(state.sweep_soon.wait(), SWEEP_EVERY_S)
        except asyncio.TimeoutError:
            pass


def _allow_many_connections() -> None:
    """A shell allows 1,024 descriptors until asked for more: fewer than a thousand pollers need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _announce(state: AppState) -> None:
    settings, choice = state.settings, state.choice
    log.info("pipeline %s: %s", choice.name, choice.reason)
    if not settings.api_keys and not settings.bound_to_loopback:
        log.warning(
            "NO API_KEY IS SET and %s is not a loopback address: everybody who can reach this "
            "server can use it",
            settings.host,
        )


def _drain_on_signals(loop: asyncio.AbstractEventLoop, state: AppState) -> Callable[[], None]:
    """Tell the app before the HTTP server waits for its open replies.

    Long polls and event streams would hold a stop up for as long as they last: uvicorn ends only
    what ends by itself. Its own handlers run after ours. Returns what undoes this.
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


def main() -> int:
    """Serve until told to stop; the exit code."""
    try:
        settings = Settings.from_environment(os.environ)
        logs.configure(settings.log_format)
        app = create_app(settings)
        app.state.app_state.open_store()
    except (SettingsError, JobsFolderError) as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_MISCONFIGURED
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=TimeoutHttpProtocol,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=REPLY_GRACE_S,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal once more when all is done; it has been obeyed by then
        signal.signal(number, lambda *_: None)
    server.run()
    return 0 if server.started else 1


def __getattr__(name: str) -> Any:
    """`app`, for `uvicorn main:app`: made once, at first sight."""
    if name != "app":
        raise AttributeError(name)
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as exc:
        raise SystemExit(str(exc)) from None
    logs.configure(settings.log_format)
    app = globals()["app"] = create_app(settings)
    return app


if __name__ == "__main__":
    sys.exit(main())
