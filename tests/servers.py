"""Real servers for tests: the program in its own process, or an app on a thread.

A test that leaks a server would hold the runner's pipe: a process gets its own group and a log
file, and both kinds end with their `with` block.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from api.app_state import AppState
from api.http_protocol import LimitedHttpProtocol
from errors import QueueFull
from executors.base import Executor
from main import create_app
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0


@dataclass(frozen=True)
class ProcessServer:
    """A running `python main.py`."""

    url: str
    jobs_dir: Path
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True)
class ThreadServer:
    """An app of this process; `state` is what its routes use."""

    url: str
    jobs_dir: Path
    state: AppState

    def reserved_places(self) -> int:
        """Places in the queue that uploads hold, found by reserving all free ones."""
        queue, taken = self.state.worker.queue, 0
        with contextlib.suppress(QueueFull):
            while True:
                queue.reserve()
                taken += 1
        for _ in range(taken):
            queue.release()
        return queue.limit - taken - len(queue.ids())


def free_port() -> int:
    """A free port, below those that the kernel gives to connections."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def process_server(folder: Path, **environment: str) -> Iterator[ProcessServer]:
    """Start the program and wait until it answers."""
    port = int(environment.get("PORT") or free_port())
    log, jobs_dir = folder / "server.log", folder / "jobs"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "main.py"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PORT": str(port),
                "HOST": "127.0.0.1",
                "JOBS_DIR": str(jobs_dir),
                "PIPELINE": "silhouette",
                "MIN_FREE_GB": "0",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_health(url, process, log)
        yield ProcessServer(url, jobs_dir, process, log)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(10)


def wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until GET /health answers; fails with the log if the process ends instead."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            httpx.get(f"{url}/health", timeout=2.0)
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"no answer after {START_S} s: {log.read_text()}")


@contextmanager
def thread_server(
    jobs_dir: Path, executor: Executor, settings: Settings | None = None
) -> Iterator[ThreadServer]:
    """Serve an app with this executor on a thread of this process."""
    settings = settings or quick_settings(jobs_dir)
    app = create_app(settings, executor)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            http=LimitedHttpProtocol,
            access_log=False,
            server_header=False,
            log_config=None,
            timeout_graceful_shutdown=2,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the app did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield ThreadServer(f"http://127.0.0.1:{port}", settings.jobs_dir, app.state.app_state)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the app did not stop"


def quick_settings(jobs_dir: Path, **changes: object) -> Settings:
    """Settings for one test."""
    base = {
        "jobs_dir": jobs_dir,
        "host": "127.0.0.1",
        "pipeline": "silhouette",
        "min_free_gb": 0.0,
    }
    return Settings(**{**base, **changes})  # type: ignore[arg-type]
