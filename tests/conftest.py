"""Fixtures of more than one folder: real servers, the real Blender, the folder of real clips."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.servers import ProcessServer, process_server

NEEDS = {"browser": "browser", "cluster": "ray", "real_blender": "blender", "images": "image"}
"""Fixture -> marker of the tests that ask for it."""


def pytest_configure() -> None:
    """A run in the background ignores SIGINT; so would the programs that the tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a browser, a Ray cluster, Blender or a built image.

    One of them is enough for a machine: with pytest-xdist all who use it run on one worker.
    """
    for item in items:
        for fixture in NEEDS.keys() & getattr(item, "fixturenames", ()):
            item.add_marker(NEEDS[fixture])
            item.add_marker(pytest.mark.xdist_group(NEEDS[fixture]))


@pytest.fixture(scope="module")
def collected_garbage() -> None:
    """For tests that count open files: what other tests left closes its files here, not later."""
    gc.collect()


@pytest.fixture(scope="session")
def real_blender() -> str:
    """The real Blender's program."""
    found = os.environ.get("BLENDER_PATH") or shutil.which("blender")
    if not found:
        pytest.skip("no Blender: neither BLENDER_PATH nor PATH has one")
    return found


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    """One `python main.py` for all tests that need no special settings."""
    with process_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ProcessServer]]:
    """Start more servers, with environment variables of the test's choice."""
    with ExitStack() as running:

        def start(**environment: str) -> ProcessServer:
            context: AbstractContextManager[ProcessServer] = process_server(tmp_path, **environment)
            return running.enter_context(context)

        yield start


@pytest.fixture(scope="session")
def test_media() -> Path:
    """The folder of real clips and hostile files outside the project."""
    folder = os.environ.get("TEST_MEDIA", "")
    if not folder:
        pytest.skip("TEST_MEDIA is not set")
    return Path(folder)
