"""Every state of the page as a picture: `python -m tests.web.pictures FOLDER`.

Sends a real clip to a real server in a real browser, and stops the job's process while a state is
photographed. Writes PNGs of the whole page named state-size-scheme, and as WebP the pictures that
docs/page.md shows, under their names in docs/images. Not a test: a person must look at them.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.server import Server
from tests.video.clips import ffmpeg
from tests.web.browser import CLIP, SIZES, Tab, chromium, new_tab

SCHEMES = ("light", "dark")
IN_LIGHT = ("empty", "chosen", "uploading", "found", "running", "finished", "error")
SHOWN = {
    **{state: f"{state}-laptop-light" for state in IN_LIGHT},
    "queued": "queued-laptop-dark",
    "finished-dark": "finished-laptop-dark",
    "finished-phone-dark": "finished-phone-dark",
    "finished-wide-dark": "finished-wide-dark",
}
"""Name in docs/images -> picture."""


def main(folder: Path) -> None:
    """Write all pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as made,
        Server(Path(made), "silhouette") as server,
        chromium() as browser,
    ):
        server.start()
        url = f"http://127.0.0.1:{server.port}"
        with new_tab(browser, url, reduced_motion="reduce") as tab:
            take = Camera(tab, folder)
            choose(tab, take)
            upload(tab, take, server, Path(made))
            run(tab, take, server)
            fail(tab, take, Path(made))
            tab.open()
            tab.page.wait_for_selector("#history-list img")
            take("again")
    for name, picture in SHOWN.items():
        png, webp = folder / f"{picture}.png", folder / f"{name}.webp"
        ffmpeg("-i", str(png), "-quality", "80", str(webp))


class Camera:
    """Takes pictures of a tab at every size and in both colour schemes."""

    def __init__(self, tab: Tab, folder: Path) -> None:
        self._tab = tab
        self._folder = folder

    def __call__(self, state: str) -> None:
        for size, (width, height) in SIZES.items():
            self._tab.page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                self._tab.page.emulate_media(color_scheme=scheme)
                path = self._folder / f"{state}-{size}-{scheme}.png"
                self._tab.page.screenshot(path=path, full_page=True, timeout=90_000)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def choose(tab: Tab, take: Camera) -> None:
    """The empty page, and a chosen clip with a box around its subject."""
    tab.open()
    tab.page.wait_for_selector("#pipeline-note:not([hidden])")
    take("empty")
    tab.page.click("#example")
    tab.until("document.querySelectorAll('#strip canvas').length === 31")
    tab.page.click("#subject-field summary")
    for side, percent in (("Left", 6), ("Top", 13), ("Right", 92), ("Bottom", 89)):
        tab.page.fill(f"#subject-field label:has-text('{side}')", str(percent))
    tab.page.keyboard.press("Tab")
    tab.page.click("#subject-field summary")
    take("chosen")


def upload(tab: Tab, take: Camera, server: Server, folder: Path) -> None:
    """An upload, half sent to a server that is then stopped; cancelled afterwards."""
    large = folder / "dancing_sprout.mp4"
    large.write_bytes(CLIP.read_bytes())
    os.truncate(large, 20_000_000)
    tab.open()
    tab.choose(large)
    tab.until("document.querySelectorAll('#strip canvas').length === 31")
    network = tab.context.new_cdp_session(tab.page)
    network.send("Network.enable")
    speed = {"offline": False, "latency": 0, "downloadThroughput": -1}
    network.send("Network.emulateNetworkConditions", {**speed, "uploadThroughput": 2_000_000})
    tab.page.click("#submit")
    tab.until("document.querySelector('#upload-bar').value > 0.4", 60)
    with stopped(server.pid):
        take("uploading")
        tab.page.click("#upload-cancel")
    network.send("Network.emulateNetworkConditions", {**speed, "uploadThroughput": -1})


def run(tab: Tab, take: Camera, server: Server) -> None:
    """A running and a waiting job, while the child is stopped; then the first job finished."""
    first = tab.send(mode="default")
    tab.page.wait_for_selector("#found canvas", timeout=300_000)
    with stopped(server.child()):
        take("found")
    tab.until("parseInt(document.querySelector('#progress-value')?.textContent) >= 40", 300)
    tab.until("actionmesh.scene?.drawn > 0", 60)
    with stopped(server.child()):
        take("running")
        second = tab.send(mode="fast")
        tab.page.wait_for_selector("#progress-panel:not([hidden])")
        take("queued")
    server.http.post(f"/jobs/{second}/cancel")
    tab.open(f"#job={first}")
    tab.wait_for_status("finished", 300)
    tab.page.wait_for_selector("#playback-controls:not([hidden])", timeout=90_000)
    tab.evaluate("() => actionmesh.playback.pauseAt(7)")
    tab.until("!document.querySelector('#source').seeking && actionmesh.scene.drawn > 1")
    take("finished")
    tab.page.click("#match")
    tab.until("!document.querySelector('#overlay').hidden")
    take("matching")


def fail(tab: Tab, take: Camera, folder: Path) -> None:
    """A failed job: a grey clip without a subject."""
    clip = folder / "grey.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=320x240:r=24:d=1.5", "-pix_fmt", "yuv420p", str(clip))
    tab.send(clip)
    tab.wait_for_status("error", 150)
    take("error")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
