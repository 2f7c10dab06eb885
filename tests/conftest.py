"""Fixtures that more than one room needs: a real server, and servers with other settings."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.servers import ProcessServer, process_server


def pytest_configure() -> None:
    """A run in the background ignores SIGINT; so would the programs that our tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    """One `python main.py` for all tests that ask for nothing special."""
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
    """The folder of real clips and hostile files that lies outside the project."""
    folder = os.environ.get("TEST_MEDIA", "")
    if not folder:
        pytest.skip("TEST_MEDIA is not set")
    return Path(folder)
