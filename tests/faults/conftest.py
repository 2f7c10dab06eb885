"""Servers that are ended whatever happens, and small clips to send them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disk import SmallDisk
from tests.faults.process_pool import ForkedServer, ProcessPool
from tests.faults.processes import adopt_orphans
from tests.faults.server import SPECKS, Server
from tests.video.clips import numbered

MakeServer = Callable[..., Server]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orphans are found through /proc and prctl."""
    if sys.platform != "linux":
        for item in items:
            if "faults" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="the fault tests read Linux's /proc"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen numbered frames, some kilobytes."""
    return numbered(tmp_path_factory.mktemp("clips") / "sixteen.mp4", 16)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """`make_server(pipeline, SETTING=value)`: not yet started, its JOBS_DIR in tmp_path."""
    made: list[Server] = []

    def make(pipeline: str = SPECKS, **settings: Any) -> Server:
        made.append(Server(tmp_path, pipeline, **settings))
        return made[-1]

    with adopt_orphans():
        yield make
        for server in made:
            server.close()


@pytest.fixture(scope="session")
def process_pool() -> Iterator[ProcessPool]:
    """Forks servers."""
    made = ProcessPool()
    yield made
    made.close()


@pytest.fixture
def fork_server(tmp_path: Path, process_pool: ProcessPool) -> Iterator[MakeServer]:
    """As `make_server`, but quicker to start: for tests that start it more than once."""
    made: list[Server] = []

    def make(pipeline: str = SPECKS, **settings: Any) -> Server:
        made.append(ForkedServer(process_pool, tmp_path, pipeline, **settings))
        return made[-1]

    with adopt_orphans():
        yield make
        for server in made:
            server.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Space for one job: the preview alone needs 38 MB for raw pictures."""
    try:
        made = SmallDisk(tmp_path / "disk", 64)
    except OSError as exc:
        pytest.skip(f"{exc.strerror} (only root may)")
    yield made
    made.unmount()
