"""Builds the app and runs it: settings -> store, worker, routes -> one FastAPI app.

`python main.py` serves on HOST and PORT; `uvicorn main:app` works too, with its own --host and
--port. Nothing happens at import: `app` is made when it is first read.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from api import docs_page, events, openapi, outputs, page, problems, status, submissions
from api import jobs as job_routes
from api.app_state import AppState
from api.http_protocol import LimitedHttpProtocol, limit_all_connections
from api.lifespan import lifespan
from api.security import SecurityMiddleware
from executors.base import Executor, ExecutorOptions
from executors.local import LocalExecutor
from gpus import find_gpus
from job import logs
from job.folder import JobsFolder, JobsFolderError
from job.task import ChildConfig
from job_store import JobStore
from pipeline import Gpu, PipelineChoice, child_memory_mb, choose_pipeline, smallest
from settings import VERSION, Settings, SettingsError
from worker.fetching import Fetcher
from worker.loop import Worker

EXIT_MISCONFIGURED = 2
OPEN_PATHS = ("/", "/health", "/ready", "/client.py", "/docs.css")
REPLY_GRACE_S = 3
"""How long open replies may take after the server was asked to stop."""


def create_app(settings: Settings, executor: Executor | None = None) -> FastAPI:
    """A whole server, not yet started. Tests pass their own settings and executor."""
    gpus = find_gpus(os.environ)[: settings.gpu_workers or None]
    choice = choose_pipeline(settings.pipeline, smallest(gpus))
    if settings.ray_address:
        choice = replace(choice, elsewhere=True)
    executor = executor or _executor(settings, choice, gpus)
    folder = JobsFolder(settings.jobs_dir)
    store = JobStore(folder)
    worker = Worker(
        store, folder, executor, max_queue=settings.max_queue, keep_input=settings.keep_input
    )
    fetcher = Fetcher(store, folder, worker, settings)
    state = AppState(settings, choice, store, folder, worker, fetcher)

    app = FastAPI(
        title="ActionMesh Worker",
        description="A short video of one moving subject in, an animated 3D mesh out.",
        version=VERSION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.app_state = state
    files = page.page_files()
    app.add_middleware(
        SecurityMiddleware, settings=settings, open_paths=frozenset((*OPEN_PATHS, *files))
    )
    routers = (  # matched in this order: what is asked most often comes first
        job_routes.router,
        status.router,
        submissions.router,
        events.router,
        outputs.router,
        docs_page.router,
        page.page_router(files),
    )
    problems.install(app)
    for router in routers:
        app.router.routes += router.routes  # include_router wraps them, at 20 us a request
        _register_head(app, router)
    openapi.complete(app)
    return app


def _executor(settings: Settings, choice: PipelineChoice, gpus: Sequence[Gpu]) -> Executor:
    """Children on this machine, one per GPU, or, if RAY_ADDRESS is set, actors on a cluster."""
    if choice.name == "silhouette":
        gpus = ()  # its jobs need the same cores: one child, unless GPU_WORKERS asks for more
    options = ExecutorOptions(
        ChildConfig(
            choice.name,
            settings.log_format,
            memory_mb=child_memory_mb(choice.name, settings.child_memory_gb),
            uses_cuda=choice.may_use_cuda,
            cores=settings.child_cores,
            task_s=settings.job_timeout,
            blender_path=str(settings.blender_path or ""),
            environment=settings.child_environment(with_paths=not settings.ray_address),
        ),
        job_timeout_s=settings.job_timeout,
        idle_unload_s=settings.idle_unload_seconds,
        # not on a cluster: an actor gets its next job after the last one's files were sent
        separate_files=choice.name == "actionmesh" and not settings.ray_address,
    )
    if not settings.ray_address:
        # ActionMesh without a card that NVML knows: there may be one, and children would share it
        children = 1 if choice.name == "actionmesh" else max(1, settings.gpu_workers)
        return LocalExecutor(replace(options, gpus=tuple(gpus) or (None,) * children))
    from executors.ray import RayExecutor  # only here: most servers have no Ray

    if importlib.util.find_spec("ray") is None:
        raise SettingsError(
            "RAY_ADDRESS is set, but the package ray is missing: "
            "pip install -r requirements/ray.txt"
        )
    return RayExecutor(settings.ray_address, options, settings.gpu_workers)


def _register_head(app: FastAPI, router: APIRouter) -> None:
    """Registers HEAD for every GET route but the event streams, which never end."""
    for route in router.routes:
        if (
            isinstance(route, APIRoute)
            and "GET" in (route.methods or ())
            and "events" not in route.path
        ):
            app.router.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                include_in_schema=False,
                openapi_extra=route.openapi_extra,
                route_class_override=type(route),
            )


def main() -> int:
    """Serve until a signal comes; the exit code."""
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
        http=LimitedHttpProtocol,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=REPLY_GRACE_S,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again after its shutdown; that must have no effect
        signal.signal(number, lambda *_: None)
    server.run()
    return 0 if server.started else 1


def __getattr__(name: str) -> Any:
    """`app`, for `uvicorn main:app`: made once, when it is first read."""
    if name != "app":
        raise AttributeError(name)
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as exc:
        raise SystemExit(str(exc)) from None
    logs.configure(settings.log_format)
    limit_all_connections()
    app = globals()["app"] = create_app(settings)
    return app


if __name__ == "__main__":
    sys.exit(main())
