"""The page in a real browser against a real server: from a clip to a mesh that moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ProcessServer
from tests.web.browsing import CLIP, SIZES, Tab
from tests.web.conftest import NewTab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JOB_S = 150

# frame of the mesh from its morph weights, and of the video, at the moment of a drawing
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


@pytest.fixture(scope="module")
def finished(server: ProcessServer) -> str:
    """The id of a job that the silhouette pipeline has finished."""
    with open(CLIP, "rb") as clip:
        sent = httpx.post(
            f"{server.url}/jobs", files={"file": clip}, data={"mode": "fast_low_ram"}, timeout=30
        )
    job_id = str(sent.json()["job_id"])
    for _ in range(JOB_S // 30):
        job = httpx.get(f"{server.url}/jobs/{job_id}?wait=30", timeout=60).json()
        if job["status"] == "finished":
            return job_id
    raise AssertionError(job)


def _wait_for_stage(tab: Tab) -> None:
    """Until mesh and transport are there."""
    tab.page.wait_for_selector("#transport:not([hidden])", timeout=60_000)
    tab.until("actionmesh.scene.drawn > 0", 60)


def test_a_clip_becomes_a_moving_mesh(server: ProcessServer, tab_at: NewTab) -> None:
    tab = tab_at(server)
    streams: list[str] = []
    tab.page.on(
        "response", lambda reply: streams.append(reply.headers.get("content-type", ""))
        if reply.url.endswith("/events") else None,
    )  # fmt: skip
    tab.open()
    tab.page.click("#example")
    tab.until("document.querySelectorAll('#strip canvas').length === 31")
    assert "31 frames, every frame" in tab.page.inner_text("#strip-text")
    tab.page.check("input[name=mode][value=fast_low_ram]", force=True)
    tab.page.click("#submit")
    seen, titles, saw_anchor = [], set(), False
    tab.page.wait_for_selector("#live:not([hidden])")
    while tab.page.get_attribute("#job", "data-status") in ("queued", "running"):
        percent, title = tab.glance()
        seen.append(percent)
        titles.add(title)
        saw_anchor = saw_anchor or bool(tab.evaluate("() => actionmesh.scene?.drawn > 0"))
        tab.page.wait_for_timeout(150)
    tab.wait_for_status("finished")
    moving = sorted(set(seen) - {-1})
    assert len(moving) >= 4 and seen == sorted(seen), seen
    assert any(title.startswith(f"{moving[-1]}%") for title in titles), titles
    assert saw_anchor, "the anchor mesh was not shown while the job ran"
    assert streams and all(kind.startswith("text/event-stream") for kind in streams), streams
    _wait_for_stage(tab)
    assert tab.page.title().startswith("Done")
    assert tab.page.locator("#downloads li").count() >= 4
    assert "MB" in tab.page.inner_text("#downloads li:first-child")
    assert tab.page.locator("#single-list a").count() == 31


def test_the_mesh_moves_in_step_with_the_video(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    tab = tab_at(server, viewport={"width": 900, "height": 700})
    tab.open(f"#job={finished}")
    _wait_for_stage(tab)
    pictures, frames = set(), []
    for _ in range(12):
        frames.append(tab.evaluate(BOTH_FRAMES))
        tab.page.wait_for_timeout(130)
    for _ in range(2):
        pictures.add(tab.picture("#scene"))
        tab.page.wait_for_timeout(400)
    assert len(pictures) == 2, "two pictures of the moving mesh are the same"
    assert len({round(frame["mesh"], 3) for frame in frames}) >= 4, frames
    for frame in frames:  # the last frame has no next one: the mesh waits there for the loop
        apart = abs(frame["mesh"] - frame["video"])
        assert min(apart, 31 - apart) <= 1.0001, frame
        assert 0 <= frame["total"] <= 1.0001, frame
    tab.page.click("#play")
    for wanted in (0, 7, 30, 18, 19, 3):
        tab.evaluate(
            """(frame) => { const scrubber = document.querySelector('#scrubber');
            scrubber.value = frame; scrubber.dispatchEvent(new Event('input')); }""",
            wanted,
        )
        tab.until("!document.querySelector('#source').seeking")
        tab.page.wait_for_timeout(100)
        frame = tab.evaluate(BOTH_FRAMES)
        assert frame["shown"] == wanted and frame["mesh"] == pytest.approx(wanted, abs=1e-3), frame
        assert abs(frame["video"] - wanted) <= 1, frame


def test_the_tools_change_what_is_seen(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    small = {"width": 900, "height": 700}
    tab = tab_at(server, reduced_motion="reduce", viewport=small)
    tab.open(f"#job={finished}")
    _wait_for_stage(tab)
    assert tab.page.get_attribute("#play", "aria-label") == "Play", "less motion was asked for"
    tab.page.wait_for_timeout(500)
    drawn = tab.evaluate("() => actionmesh.scene.drawn")
    tab.page.wait_for_timeout(600)
    assert tab.evaluate("() => actionmesh.scene.drawn") == drawn, "it draws though nothing moves"
    before = tab.picture("#scene")
    for choose in ("text=Normals", "text=Clay", "#wireframe", "#grid", "#turntable"):
        tab.page.click(choose)
        tab.page.wait_for_timeout(300)
        after = tab.picture("#scene")
        assert after != before, f"{choose} changes nothing"
        before = after


def test_what_nobody_sees_is_not_drawn(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    tab = tab_at(server, viewport={"width": 900, "height": 400})
    tab.open(f"#job={finished}")
    _wait_for_stage(tab)
    tab.until("actionmesh.playback.isPlaying")
    drawn = "() => actionmesh.scene.drawn"

    def rests() -> bool:
        before = tab.evaluate(drawn)
        tab.page.wait_for_timeout(500)
        return bool(tab.evaluate(drawn) == before)

    tab.evaluate("() => scrollTo(0, document.body.scrollHeight)")
    tab.until_here(rests)
    assert tab.evaluate("() => actionmesh.playback.isPlaying")
    tab.evaluate("() => scrollTo(0, 0)")
    tab.until_here(lambda: not rests())


def test_the_keyboard_is_enough(server: ProcessServer, tab_at: NewTab, finished: str) -> None:
    tab = tab_at(server, reduced_motion="reduce")
    keys = tab.page.keyboard
    tab.open(f"#job={finished}")
    _wait_for_stage(tab)
    shown = "() => actionmesh.playback.frame"
    for key, frame in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0),
                       ("ArrowLeft", 30), ("Home", 0), ("End", 30)]:  # fmt: skip
        keys.press(key)
        tab.page.wait_for_timeout(120)
        assert tab.evaluate(shown) == frame, key
    keys.press(" ")
    tab.until("actionmesh.playback.isPlaying")
    keys.press(" ")
    tab.until("!actionmesh.playback.isPlaying")
    keys.press("w")
    assert tab.page.get_attribute("#wireframe", "aria-pressed") == "true"
    tab.open()
    tab.until("document.querySelector('#engine').textContent")
    for _ in range(12):
        keys.press("Tab")
        if tab.evaluate("() => document.activeElement.id") == "example":
            break
    keys.press("Enter")
    tab.page.wait_for_selector("#chosen:not([hidden])")
    tab.until("!document.querySelector('#example').disabled")
    for _ in range(30):
        keys.press("Tab")
        if tab.evaluate("() => document.activeElement.id") == "submit":
            break
    keys.press("Enter")
    tab.page.wait_for_selector("#live:not([hidden])")
    for _ in range(12):
        keys.press("Tab")
        if tab.evaluate("() => document.activeElement.id") == "cancel":
            break
    keys.press("Enter")
    tab.wait_for_status("cancelled")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_its_screen(
    server: ProcessServer, tab_at: NewTab, finished: str, size: str, scheme: Any
) -> None:
    width, height = SIZES[size]
    tab = tab_at(server, viewport={"width": width, "height": height}, color_scheme=scheme)
    fits = "() => document.documentElement.scrollWidth <= innerWidth"
    tab.open()
    assert tab.evaluate(fits)
    tab.choose()
    assert tab.evaluate(fits)
    tab.open(f"#job={finished}")
    _wait_for_stage(tab)
    assert tab.evaluate(fits)
    colour = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in colour[4:-1].split(",")) / 3
    assert (brightness < 60) == (scheme == "dark"), colour
    boxes = [tab.page.locator(part).bounding_box() for part in ("#mesh-pane", "#side")]
    assert boxes[0] and boxes[1]
    is_one_column = boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert is_one_column == (size == "phone")


def test_everything_has_a_name(server: ProcessServer, tab_at: NewTab, finished: str) -> None:
    """Every control that can be reached has a label for those who do not see it."""
    nameless = """() => [...document.querySelectorAll('button, input, select, a, video, canvas')]
      .filter((element) => element.checkVisibility() && !element.closest('[aria-hidden=true]'))
      .filter((element) => !(element.ariaLabel || element.textContent.trim()
        || element.labels?.length || element.title))
      .map((element) => element.outerHTML)"""
    tab = tab_at(server)
    tab.open()
    assert tab.evaluate(nameless) == []
    tab.choose()
    tab.page.click("summary")
    assert tab.evaluate(nameless) == []
    tab.open(f"#job={finished}")
    _wait_for_stage(tab)
    assert tab.evaluate(nameless) == []


def test_a_flat_clip_ends_with_a_hint_and_ways_on(
    server: ProcessServer, tab_at: NewTab, make_clip: Callable[..., Path]
) -> None:
    name = "<img src=x onerror=alert(1)>.mp4"
    tab = tab_at(server)
    tab.send(make_clip(name, "color=gray", 24, 1.5))
    tab.wait_for_status("error", JOB_S)
    assert "No subject" in tab.page.inner_text("#outcome")
    assert "Film one subject" in tab.page.inner_text("#outcome")
    assert tab.page.inner_text("#job-name") == name
    assert tab.page.locator("main img[src=x]").count() == 0
    before = tab.job_id
    tab.page.click("text=Retry with another seed")
    tab.wait_for_another_job(before)
    tab.wait_for_status("error", JOB_S)
    tab.page.click("text=Send another clip")
    tab.page.wait_for_selector("#choose:not([hidden])")
    assert tab.page.locator("#history-list li").count() == 2


def test_deleting_asks_first(server: ProcessServer, tab_at: NewTab, make_clip: Any) -> None:
    tab = tab_at(server)
    job_id = tab.send(make_clip("delete.mp4", "color=gray", 24, 1.5))
    tab.wait_for_status("error", JOB_S)
    tab.page.click("#delete")
    assert httpx.get(f"{server.url}/jobs/{job_id}").status_code == 200
    tab.page.click("#delete")
    tab.page.wait_for_selector("#choose:not([hidden])")
    assert httpx.get(f"{server.url}/jobs/{job_id}").status_code == 404
    tab.expected = ("404",)
    tab.open(f"#job={job_id}")
    tab.page.wait_for_selector("text=There is no such job")
