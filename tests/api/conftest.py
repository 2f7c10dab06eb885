"""Servers for the API's tests: one that finishes jobs at once, one that waits for permission."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx
import pytest

from executors.base import Executor
from tests.inline_executors import FinishesAtOnce, WaitsForPermission
from tests.servers import ThreadServer, quick_settings, thread_server

Serve = Callable[..., ThreadServer]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    """Every job is finished a moment after it was sent."""
    with thread_server(tmp_path_factory.mktemp("quick") / "jobs", FinishesAtOnce()) as running:
        yield running


@pytest.fixture
def client(quick: ThreadServer) -> Iterator[httpx.Client]:
    """Talks to `quick`."""
    with httpx.Client(base_url=quick.url, timeout=30) as talking:
        yield talking


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Servers with an executor and settings of the test's choice."""
    folders = (tmp_path / f"jobs{number or ''}" for number in count())
    with ExitStack() as running:

        def start(executor: Executor | None = None, **settings: object) -> ThreadServer:
            chosen = quick_settings(next(folders), **settings)
            return running.enter_context(
                thread_server(chosen.jobs_dir, executor or FinishesAtOnce(), chosen)
            )

        yield start


@pytest.fixture
def gate() -> Iterator[WaitsForPermission]:
    """An executor that keeps its job running until `permission` is set."""
    executor = WaitsForPermission()
    yield executor
    executor.permission.set()
