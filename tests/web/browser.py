"""A real Chromium for the tests of the page, and a tab that records errors. Not a test itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

CLIP = Path(__file__).resolve().parents[2] / "examples" / "dancing_sprout.mp4"
SIZES = {"phone": (390, 844), "laptop": (1280, 800), "wide": (1920, 1080)}

TIMEOUT_S = 60.0
"""Longest wait for a condition; long, because the two cores may be busy."""

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# WebGL without a GPU, and no background requests of the browser
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--mute-audio"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps"),
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser; skips the test if Chromium is not installed."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="pip install -r requirements/browser.txt"
    )
    executable = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if executable is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page in its own context. `problems` are errors and requests to other origins; those with a
    text from `expected` in them are allowed.
    """

    page: Page
    context: BrowserContext
    url: str
    problems: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def open(self, address: str = "") -> None:
        """Open the page, at `address` (such as "#job=...") if one is given."""
        self.page.goto(f"{self.url}/{address}")

    def choose(self, clip: Path = CLIP) -> None:
        """Choose a file and wait for its strip, or for the reason why there is none."""
        self.page.set_input_files("#file", clip)
        self.until("document.querySelector('#strip-text').textContent")

    def send(self, clip: Path = CLIP, mode: str = "fast_low_ram") -> str:
        """Send a clip; the job's id."""
        self.open()
        self.choose(clip)
        self.page.check(f"input[name=mode][value={mode}]", force=True)
        self.page.click("#submit")
        self.until("location.hash.startsWith('#job=')")
        return self.job_id

    @property
    def job_id(self) -> str:
        """The id of the job in the address."""
        return str(self.page.url).rpartition("#job=")[2]

    @property
    def percent(self) -> int:
        """The percent shown; -1 while there is none."""
        return self.percent_and_title()[0]

    def percent_and_title(self) -> tuple[int, str]:
        """The percent shown and the page's title, read at the same time."""
        percent = "document.querySelector('#progress-value.is-percent')?.innerText"
        shown, title = self.evaluate(f"() => [{percent}, document.title]")
        return int(shown) if shown else -1, title

    def wait_for_status(self, status: str, timeout_s: float = TIMEOUT_S) -> None:
        """Until the job on the page has this status."""
        self.page.wait_for_selector(f"#job[data-status={status}]", timeout=timeout_s * 1000)

    def wait_for_viewer(self) -> None:
        """Until mesh and playback controls are shown."""
        self.page.wait_for_selector("#playback-controls:not([hidden])")
        self.until("actionmesh.scene.drawn > 0")

    def until(self, expression: str, timeout_s: float = TIMEOUT_S) -> None:
        """Until true in the page. (Playwright's own function needs eval, which the CSP forbids.)"""
        deadline = time.monotonic() + timeout_s
        while not self.page.evaluate(f"() => Boolean({expression})"):
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {expression}"
            self.page.wait_for_timeout(40)

    def until_true(self, condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
        """Until the condition of this process is true, while the page continues."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s"
            self.page.wait_for_timeout(40)

    def wait_for_another_job(self, job_id: str) -> None:
        """Until the page shows a job that is not this one."""
        self.until(f"/job=/.test(location.hash) && !location.hash.endsWith('{job_id}')")

    def focus_by_tab_key(self, element_id: str) -> None:
        """Press Tab until the element has the focus, at most 30 times."""
        for _ in range(30):
            self.page.keyboard.press("Tab")
            if self.evaluate("() => document.activeElement.id") == element_id:
                return
        raise AssertionError(f"the Tab key does not reach #{element_id}")

    def picture(self, selector: str) -> bytes:
        """A PNG of the element as it is now, even if it is moving."""
        box = self.page.locator(selector).bounding_box()
        assert box is not None
        return bytes(self.page.screenshot(clip=box, timeout=90_000))

    def until_looks_different(self, before: bytes, selector: str) -> None:
        """Until the element no longer looks as in the PNG `before`."""
        self.until_true(lambda: self.picture(selector) != before)

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Run a JavaScript function in the page."""
        return self.page.evaluate(script, argument)


@contextmanager
def new_tab(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """A new profile with one tab. Problems in it fail the test."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(TIMEOUT_S * 1000)
    tab = Tab(context.new_page(), context, url.rstrip("/"))
    _listen(tab)
    try:
        yield tab
    finally:
        context.close()
    unexpected = [text for text in tab.problems if not any(part in text for part in tab.expected)]
    assert not unexpected, unexpected


def _listen(tab: Tab) -> None:
    ours = urlsplit(tab.url).netloc

    def on_console(message: ConsoleMessage) -> None:
        # the software renderer warns that a screenshot reads slowly
        if message.type in ("error", "warning") and "GL Driver Message" not in message.text:
            tab.problems.append(f"console {message.type}: {message.text}")

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.netloc != ours:
            tab.problems.append(f"request to another origin: {request.url}")

    tab.page.on("console", on_console)
    tab.page.on("request", on_request)
    tab.page.on("pageerror", lambda error: tab.problems.append(f"uncaught: {error}"))
