"""The page in a real browser against a real server: from a clip to an animated mesh."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ProcessServer
from tests.web.browser import CLIP, SIZES
from tests.web.conftest import NewTab

pytestmark = pytest.mark.timeout(300)

JOB_S = 150


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
    tab.page.wait_for_selector("#progress-panel:not([hidden])")
    while tab.page.get_attribute("#job", "data-status") in ("queued", "running"):
        percent, title = tab.percent_and_title()
        seen.append(percent)
        titles.add(title)
        saw_anchor = saw_anchor or bool(tab.evaluate("() => actionmesh.scene?.drawn > 0"))
        tab.page.wait_for_timeout(150)
    tab.wait_for_status("finished")
    moving = [percent for percent in seen if percent >= 0]
    assert len(set(moving)) >= 4 and moving == sorted(moving), seen
    assert any(title.startswith(f"{moving[-1]}%") for title in titles), titles
    assert saw_anchor, "the anchor mesh was not shown while the job ran"
    assert streams and all(kind.startswith("text/event-stream") for kind in streams), streams
    tab.wait_for_viewer()
    assert tab.page.title().startswith("Done")
    assert tab.page.locator("#downloads li").count() >= 4
    assert "MB" in tab.page.inner_text("#downloads li:first-child")
    assert tab.page.locator("#frame-file-list a").count() == 31


def test_a_finished_job_offers_its_files_and_curl_commands(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    tab = tab_at(server, permissions=["clipboard-read", "clipboard-write"])
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    assert "Kept until" in tab.page.inner_text("#expiry")
    assert "Apache-2.0" in tab.page.inner_text("#licence")
    with tab.page.expect_download() as download:
        tab.page.click("#downloads li:first-child a")
    files = httpx.get(f"{server.url}/jobs/{finished}").json()["files"]
    sizes = {file["name"]: file["bytes"] for file in files}
    assert download.value.path().stat().st_size == sizes["animated_mesh.glb"]
    assert download.value.suggested_filename == "dancing_sprout_animated_mesh.glb"
    tab.page.click("text=The same with curl")
    tab.page.click("#copy-curl")
    tab.until("document.querySelector('#copy-curl').textContent === 'Copied'")
    commands = str(tab.evaluate("() => navigator.clipboard.readText()")).splitlines()
    if shutil.which("curl"):
        sent = subprocess.run(["sh", "-c", commands[0]], cwd=CLIP.parent, capture_output=True)
        job_id = json.loads(sent.stdout)["job_id"]
        assert httpx.delete(f"{server.url}/jobs/{job_id}").json()["status"] == "deleted"
    assert commands[0].startswith("curl -F file=@dancing_sprout.mp4 -F mode=fast_low_ram")
    assert "-F formats=skinned,compact" in commands[0]


def kilobytes(text: str) -> float:
    """The size that ends the text."""
    shown = re.search(r"([\d.]+) KB$", text)
    assert shown, text
    return float(shown[1])


def test_files_that_were_asked_for_are_listed_or_the_reason_why_not(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    job = httpx.get(f"{server.url}/jobs/{finished}").json()
    tab = tab_at(server)
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    sizes = {file["name"]: file["bytes"] / 1000 for file in job["files"]}
    skeleton = tab.page.inner_text("#downloads li:has-text('Skeleton')")
    assert kilobytes(skeleton) == pytest.approx(sizes["skinned_mesh.glb"], abs=0.5)
    compact = tab.page.inner_text("#downloads li:has-text('Compact')")
    warnings = [w["message"] for w in job["warnings"] if w["code"].startswith("compact_")]
    if job["outputs"]["compact_mesh"] is None:
        assert warnings[0] in compact and warnings[0] not in tab.page.inner_text("#warnings")
    else:
        assert kilobytes(compact) == pytest.approx(sizes["compact_mesh.glb"], abs=0.5)


def test_the_form_says_how_long_a_job_takes(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    assert finished
    tab = tab_at(server)
    tab.open()
    tab.until("document.querySelector('#server-info').textContent")
    tab.choose()
    tab.page.check("input[name=mode][value=fast_low_ram]", force=True)
    modes = httpx.get(f"{server.url}/info").json()["modes"]
    took = next(mode for mode in modes if mode["id"] == "fast_low_ram")
    for frames in (31, 16):
        tab.page.select_option("#max-frames", str(frames))
        seconds = took["typical_seconds"] + (frames - 31) * took["seconds_per_frame"]
        shown = f"{seconds:.1f} s" if seconds < 9.95 else f"{round(seconds)} s"
        assert f"about {shown} on this machine" in tab.page.inner_text("#expected-wait")
        assert f"about {shown} here" in tab.page.inner_text("#facts-fast_low_ram")
    tab.page.check("input[name=mode][value=fast]", force=True)
    assert "machine" not in tab.page.inner_text("#expected-wait")  # no such job yet


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
    tab.wait_for_viewer()
    assert tab.evaluate(fits)
    colour = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in colour[4:-1].split(",")) / 3
    assert (brightness < 60) == (scheme == "dark"), colour
    boxes = [tab.page.locator(part).bounding_box() for part in ("#mesh-pane", "#side-pane")]
    assert boxes[0] and boxes[1]
    is_one_column = boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert is_one_column == (size == "phone")


def test_every_control_has_a_label(server: ProcessServer, tab_at: NewTab, finished: str) -> None:
    """Every visible control has a text that a screen reader can say."""
    unlabelled = """() => [...document.querySelectorAll('button, input, select, a, video, canvas')]
      .filter((element) => element.checkVisibility() && !element.closest('[aria-hidden=true]'))
      .filter((element) => !(element.ariaLabel || element.textContent.trim()
        || element.labels?.length || element.title))
      .map((element) => element.outerHTML)"""
    tab = tab_at(server)
    tab.open()
    assert tab.evaluate(unlabelled) == []
    tab.choose()
    tab.page.click("summary")
    assert tab.evaluate(unlabelled) == []
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    assert tab.evaluate(unlabelled) == []


def test_a_clip_without_a_subject_fails_with_a_hint_and_retry_buttons(
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
    assert (
        tab.page.locator("text=another seed >> visible=true").count() == 0
    )  # nothing would change
    tab.page.click("text=Retry in fast")
    tab.wait_for_another_job(before)
    tab.wait_for_status("error", JOB_S)
    tab.page.click("text=Send another clip")
    tab.page.wait_for_selector("#choose-clip:not([hidden])")
    assert tab.page.locator("#history-list li").count() == 2


def test_deleting_asks_first(server: ProcessServer, tab_at: NewTab, make_clip: Any) -> None:
    tab = tab_at(server)
    job_id = tab.send(make_clip("delete.mp4", "color=gray", 24, 1.5))
    tab.wait_for_status("error", JOB_S)
    tab.page.click("#delete")
    assert httpx.get(f"{server.url}/jobs/{job_id}").status_code == 200
    tab.page.click("#delete")
    tab.page.wait_for_selector("#choose-clip:not([hidden])")
    assert httpx.get(f"{server.url}/jobs/{job_id}").status_code == 404
    tab.expected = ("404",)
    tab.open(f"#job={job_id}")
    tab.page.wait_for_selector("text=There is no such job")
