"""Fixtures for the tests of the page: browser, tabs, servers, a finished job, clips."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import imageio_ffmpeg
import pytest

from tests.servers import ProcessServer, process_server
from tests.web.browser import CLIP, Tab, chromium, new_tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NewTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium per test file: Playwright's event loop must end with it."""
    with chromium() as running:
        yield running


@pytest.fixture
def tab_at(browser: Browser) -> Iterator[NewTab]:
    """Opens tabs at a server, with options for Playwright's new_context."""
    with ExitStack() as opened:

        def open_tab(server: ProcessServer, **options: Any) -> Tab:
            return opened.enter_context(new_tab(browser, server.url, **options))

        yield open_tab


@pytest.fixture(scope="session")
def finished(server: ProcessServer) -> str:
    """The id of a job that the silhouette pipeline has finished, with more formats."""
    options = {"mode": "fast_low_ram", "formats": "skinned,compact"}
    with open(CLIP, "rb") as clip:
        sent = httpx.post(f"{server.url}/jobs", files={"file": clip}, data=options, timeout=30)
    job_id = str(sent.json()["job_id"])
    for _ in range(5):
        job = httpx.get(f"{server.url}/jobs/{job_id}?wait=30", timeout=60).json()
        if job["status"] == "finished":
            return job_id
    raise AssertionError(job)


@pytest.fixture(scope="module")
def sleeping_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    """A server whose jobs take some seconds and little CPU."""
    folder = tmp_path_factory.mktemp("sleeping")
    with process_server(folder, PIPELINE="tests.pipelines:Sleeps") as running:
        yield running


@pytest.fixture(scope="module")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes clips with an ffmpeg source: make_clip("flat.mp4", "color=gray", fps, seconds)."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, source: str, fps: float, seconds: float, *args: str) -> Path:
        path = folder / name
        picture = f"{source}{'=' if '=' not in source else ':'}s=320x240:r={fps}:d={seconds}"
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi"]
        subprocess.run(
            [*ffmpeg, "-i", picture, "-pix_fmt", "yuv420p", *args, str(path)], check=True
        )
        return path

    return make
