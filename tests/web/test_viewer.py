"""The viewer of a finished job: mesh and video in sync, display options, keys, idle drawing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import pytest

from tests.servers import ProcessServer
from tests.web.browser import SIZES, Tab
from tests.web.conftest import NewTab

pytestmark = pytest.mark.timeout(300)

# frame of the mesh (from its morph weights) and of the video, at the same animation frame
BOTH_FRAMES = """() => new Promise((resolve) => requestAnimationFrame(() => {
  const { scene, playback } = globalThis.actionmesh;
  const video = document.querySelector('#source');
  const weights = scene.weights;
  resolve({
    mesh: weights.reduce((sum, weight, k) => sum + weight * (k + 1), 0),
    video: Math.floor(video.currentTime * playback.fps + 1e-6),
    shown: playback.frame, total: weights.reduce((sum, weight) => sum + weight, 0),
  });
}))"""


def _draws_nothing(tab: Tab) -> bool:
    """True if nothing is drawn for half a second."""
    drawn = "() => actionmesh.scene.drawn"
    before = tab.evaluate(drawn)
    tab.page.wait_for_timeout(500)
    return bool(tab.evaluate(drawn) == before)


def test_the_mesh_moves_in_sync_with_the_video(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    tab = tab_at(server, viewport={"width": 900, "height": 700})
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    frames: list[dict[str, float]] = []

    def moves() -> bool:
        frames.append(tab.evaluate(BOTH_FRAMES))
        return len(frames) >= 12 and len({round(frame["mesh"], 3) for frame in frames}) >= 4

    tab.until_true(moves)
    before = tab.picture("#mesh-canvas")
    tab.until_looks_different(before, "#mesh-canvas")
    for frame in frames:  # after the last frame the mesh waits for the loop
        distance = abs(frame["mesh"] - frame["video"])
        assert min(distance, 31 - distance) <= 1.0001, frame
        assert 0 <= frame["total"] <= 1.0001, frame

    def stands_at(frame: int) -> bool:
        return bool(abs(tab.evaluate(BOTH_FRAMES)["mesh"] - frame) < 1e-3)

    tab.page.click("#play")
    for wanted in (0, 7, 30, 18, 19, 3):
        tab.evaluate(
            """(frame) => { const scrubber = document.querySelector('#scrubber');
            scrubber.value = frame; scrubber.dispatchEvent(new Event('input')); }""",
            wanted,
        )
        tab.until("!document.querySelector('#source').seeking")
        tab.until_true(partial(stands_at, wanted))
        frame = tab.evaluate(BOTH_FRAMES)
        assert frame["shown"] == wanted and abs(frame["video"] - wanted) <= 1, frame


def test_the_display_options_change_the_picture(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    small = {"width": 900, "height": 700}
    tab = tab_at(server, reduced_motion="reduce", viewport=small)
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    assert tab.page.get_attribute("#play", "aria-label") == "Play", (
        "reduced motion: it must not play by itself"
    )
    tab.until_true(lambda: _draws_nothing(tab))
    for choose in ("text=Normals", "text=Clay", "#wireframe", "#grid"):
        before = tab.picture("#mesh-canvas")
        tab.page.click(choose)
        tab.until_looks_different(before, "#mesh-canvas")
        tab.until_true(lambda: _draws_nothing(tab))
    tab.page.click("#turntable")
    before = tab.picture("#mesh-canvas")
    tab.until_looks_different(before, "#mesh-canvas")


def test_a_tall_mesh_is_shown_completely(
    start_server: Callable[..., ProcessServer], tab_at: NewTab
) -> None:
    """Also where the anchor mesh, shown before it, was smaller."""
    tab = tab_at(start_server(PIPELINE="tests.pipelines:GrowsTall"), reduced_motion="reduce")
    for width, height in (SIZES["laptop"], SIZES["phone"]):
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.send()
        tab.until("actionmesh.scene?.drawn > 0")  # the anchor
        tab.wait_for_viewer()
        tab.until_true(lambda: _draws_nothing(tab))
        png = np.frombuffer(tab.picture("#mesh-canvas"), np.uint8)
        picture = np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR), int)[:, 20:-20]
        assert np.ptp(picture[len(picture) // 2], axis=0).max() > 30, "no mesh"
        assert np.ptp(picture[4], axis=0).max() < 8, "its head is cut off"


def test_the_viewer_can_fill_the_screen(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    tab = tab_at(server)
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    tab.page.click("#full-screen")
    tab.until("document.fullscreenElement?.id === 'viewer'")
    tab.page.keyboard.press("f")
    tab.until("!document.fullscreenElement")


def test_a_hidden_viewer_draws_nothing(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    tab = tab_at(server, viewport={"width": 900, "height": 400})
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    tab.until("actionmesh.playback.isPlaying")
    tab.evaluate("() => scrollTo(0, document.body.scrollHeight)")
    tab.until_true(lambda: _draws_nothing(tab))
    assert tab.evaluate("() => actionmesh.playback.isPlaying")
    tab.evaluate("() => scrollTo(0, 0)")
    tab.until_true(lambda: not _draws_nothing(tab))


def test_the_page_works_with_the_keyboard_alone(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    tab = tab_at(server, reduced_motion="reduce")
    keys = tab.page.keyboard
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    shown = "() => actionmesh.playback.frame"
    for key, frame in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0),
                       ("ArrowLeft", 30), ("Home", 0), ("End", 30)]:  # fmt: skip
        keys.press(key)
        assert tab.evaluate(shown) == frame, key
    keys.press(" ")
    tab.until("actionmesh.playback.isPlaying")
    keys.press(" ")
    tab.until("!actionmesh.playback.isPlaying")
    keys.press("w")
    assert tab.page.get_attribute("#wireframe", "aria-pressed") == "true"
    tab.open()
    tab.until("document.querySelector('#server-info').textContent")
    tab.focus_by_tab_key("example")
    keys.press("Enter")
    tab.page.wait_for_selector("#clip-form:not([hidden])")
    tab.until("!document.querySelector('#example').disabled")
    tab.focus_by_tab_key("submit")
    keys.press("Enter")
    tab.page.wait_for_selector("#progress-panel:not([hidden])")
    tab.focus_by_tab_key("cancel")
    keys.press("Enter")
    tab.wait_for_status("cancelled")
