"""The page when something fails: lost servers, broken streams, refused clips, keys, cancelled jobs.

Where the mesh does not matter the pipeline is tests.pipelines.Sleeps: four seconds, little CPU.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ProcessServer, free_port, process_server
from tests.web.browser import CLIP
from tests.web.conftest import NewTab

pytestmark = pytest.mark.timeout(240)

JOB_S = 90
LOST = ("net::ERR_", "mesh cannot be shown")  # a broken connection has many error names
# a job may fail while its anchor mesh is being requested
GONE = ("status of 404", "status of 409", "mesh cannot be shown")


def test_a_reload_and_another_device_show_the_same_job(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = tab_at(sleeping_server)
    job_id = tab.send()
    tab.page.wait_for_selector("#progress-value.is-percent")
    tab.page.reload()
    tab.until(f"document.querySelector('#job-name').textContent === '{CLIP.name}'")
    other = tab_at(sleeping_server)
    other.open(f"#job={job_id}")
    tab.wait_for_status("finished", JOB_S)
    other.wait_for_status("finished", JOB_S)
    tab.open()
    tab.page.wait_for_selector("#history-list a")
    assert "finished" in tab.page.inner_text("#history-list li:first-child")


def test_a_running_job_can_be_cancelled_and_retried(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = tab_at(sleeping_server)
    job_id = tab.send()
    tab.page.wait_for_selector("#progress-value.is-percent")
    tab.page.click("#cancel")
    tab.wait_for_status("cancelled")
    assert httpx.get(f"{sleeping_server.url}/jobs/{job_id}").json()["status"] == "cancelled"
    tab.page.click("#outcome .primary")
    tab.wait_for_another_job(job_id)
    tab.wait_for_status("finished", JOB_S)


def test_a_cancelled_jobs_anchor_mesh_is_not_requested(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    """Even if scene.js is loaded only after the cancel."""
    tab = tab_at(sleeping_server)
    held: list[Any] = []
    asked: list[str] = []
    tab.page.route("**/scene.js", lambda route: held.append(route))
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.send()
    tab.until_true(lambda: held)
    tab.page.click("#cancel")
    tab.wait_for_status("cancelled")
    for route in held:
        route.continue_()
    tab.evaluate("async () => { await import('/scene.js'); }")
    assert not [url for url in asked if url.endswith("anchor.glb")]


def test_a_cancel_aborts_the_request_for_the_anchor_mesh(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = tab_at(sleeping_server)
    asked: list[str] = []
    ended: list[str] = []
    tab.page.route("**/anchor.glb", lambda route: asked.append(route.request.url))
    tab.page.on("requestfailed", lambda request: ended.append(request.url))
    tab.send()
    tab.until_true(lambda: asked)
    tab.page.click("#cancel")
    tab.until_true(lambda: asked[0] in ended)
    tab.wait_for_status("cancelled")
    assert len(asked) == 1


def test_waiting_jobs_show_their_position(
    start_server: Callable[..., ProcessServer], tab_at: NewTab
) -> None:
    server = start_server(PIPELINE="tests.pipelines:SleepsLong")
    tabs = [tab_at(server) for _ in range(3)]
    for tab in tabs:
        tab.send()
    tabs[2].until("document.querySelector('#progress-value')?.textContent === '2nd'")
    tabs[1].until("document.querySelector('#progress-value').textContent === 'Next'")
    assert tabs[2].page.title().startswith("Waiting")
    for tab in tabs:
        tab.page.click("#cancel")
        tab.wait_for_status("cancelled")


def test_the_page_recovers_after_the_server_was_killed(tmp_path: Path, tab_at: NewTab) -> None:
    again = {"PIPELINE": "tests.pipelines:Sleeps", "PORT": str(free_port())}
    with process_server(tmp_path, **again) as server:
        tab = tab_at(server)
        tab.expected = LOST
        tab.send()
        tab.until("parseInt(document.querySelector('#progress-value')?.textContent) > 5")
        os.killpg(server.process.pid, signal.SIGKILL)
        tab.page.wait_for_selector("#unreachable:not([hidden])")
        assert tab.page.is_visible("#progress-value"), "the last state is still shown"
    with process_server(tmp_path, **again):
        tab.page.wait_for_selector("#unreachable", state="hidden", timeout=60_000)
        tab.wait_for_status("finished", JOB_S)
        tab.page.wait_for_selector("#playback-controls:not([hidden])")


def test_without_event_streams_it_polls(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = tab_at(sleeping_server)
    tab.expected = LOST
    tab.page.route("**/events", lambda route: route.abort())
    tab.send()
    seen = set()
    while tab.page.get_attribute("#job", "data-status") in ("", "queued", "running"):
        seen.add(tab.percent)
        tab.page.wait_for_timeout(100)
    tab.wait_for_status("finished")
    assert len(seen - {-1}) >= 3, seen


def test_out_of_memory_offers_a_mode_that_needs_less(
    start_server: Callable[..., ProcessServer], tab_at: NewTab
) -> None:
    server = start_server(PIPELINE="tests.pipelines:RunsOutOfGpuMemory")
    tab = tab_at(server)
    tab.expected = GONE
    job_id = tab.send(mode="default")
    tab.wait_for_status("error", JOB_S)
    assert tab.page.inner_text("#outcome .primary") == "Retry in fast_low_ram"
    tab.page.click("#outcome .primary")
    tab.wait_for_another_job(job_id)
    tab.wait_for_status("error", JOB_S)
    assert httpx.get(f"{server.url}/jobs/{tab.job_id}").json()["mode"] == "fast_low_ram"


def test_a_too_large_file_is_refused_before_the_upload_and_an_upload_can_be_cancelled(
    start_server: Callable[..., ProcessServer], tab_at: NewTab, tmp_path: Path
) -> None:
    server = start_server(PIPELINE="tests.pipelines:Bends", MAX_UPLOAD_SIZE="40000000")
    for name, size in (("fits.mp4", 39_000_000), ("too_large.mp4", 41_000_000)):
        clip = tmp_path / name
        clip.write_bytes(CLIP.read_bytes())
        os.truncate(clip, size)
    tab = tab_at(server)
    tab.open()
    tab.choose(tmp_path / "too_large.mp4")
    tab.page.wait_for_selector("#form-warnings li")
    assert "41.0 MB; the server accepts 40.0 MB" in tab.page.inner_text("#form-warnings")
    assert tab.page.is_disabled("#submit")
    tab.page.click("#other-clip")
    slow = tab.context.new_cdp_session(tab.page)
    slow.send("Network.enable")
    slow.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 3_000_000},
    )
    tab.choose(tmp_path / "fits.mp4")
    tab.page.click("#submit")
    tab.until("document.querySelector('#upload-bar').value > 0.02")
    assert "of 39.0 MB sent" in tab.page.inner_text("#upload-text")
    tab.page.click("#upload-cancel")
    tab.page.wait_for_selector("#submit:visible")
    assert tab.page.is_hidden("#submit-problem")
    assert httpx.get(f"{server.url}/jobs").json()["jobs"] == []


def test_an_upload_that_is_being_retried_can_be_cancelled(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = tab_at(sleeping_server)
    tab.expected = LOST
    tab.open()
    tab.choose(CLIP)
    tab.page.route("**/jobs", lambda route: route.abort())
    with tab.page.expect_event("requestfailed"):
        tab.page.click("#submit")
    tab.page.click("#upload-cancel")
    tab.page.wait_for_selector("#submit:visible")
    assert tab.page.is_hidden("#submit-problem")
    tab.page.unroute("**/jobs")
    tab.page.click("#submit")
    tab.wait_for_status("finished", JOB_S)


def test_a_refusal_of_the_server_is_shown_with_its_hint(
    sleeping_server: ProcessServer, tab_at: NewTab, tmp_path: Path
) -> None:
    tab = tab_at(sleeping_server)
    tab.expected = ("415", "Failed to load resource")
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(b"%PDF-1.7 and no video at all" * 100)
    tab.open()
    tab.choose(fake)
    assert "cannot show this clip" in tab.page.inner_text("#strip-text")
    tab.page.click("#submit")
    tab.page.wait_for_selector("#submit-problem:not([hidden])")
    assert "is not an mp4" in tab.page.inner_text("#submit-problem")
    tab.page.click("#other-clip")
    tab.expected = ("422", "Failed to load resource")
    tab.page.fill("#url", "http://127.0.0.1:1/clip.mp4")
    tab.page.click("#url-form button")
    tab.page.click("#submit")
    tab.page.wait_for_selector("#submit-problem:not([hidden])")


def test_a_server_with_an_api_key_asks_for_it_once(
    start_server: Callable[..., ProcessServer], tab_at: NewTab
) -> None:
    server = start_server(PIPELINE="tests.pipelines:Bends", API_KEY="open; sesame%20")
    tab = tab_at(server)
    tab.expected = ("401",)
    tab.open()
    tab.page.fill("#key", "wrong")
    tab.page.click("#key-form .primary")
    tab.page.wait_for_selector("#key-problem:not([hidden])")
    tab.page.fill("#key", "open; sesame%20")
    tab.page.click("#key-form .primary")
    tab.until("document.querySelector('#server-info').textContent.includes('on')")
    tab.expected = ()
    tab.problems.clear()
    tab.send()
    tab.wait_for_status("finished", JOB_S)
    tab.page.wait_for_selector("#playback-controls:not([hidden])")
    cookies: Any = tab.context.cookies()
    assert [cookie["sameSite"] for cookie in cookies if cookie["name"] == "am_key"] == ["Strict"]
    tab.page.reload()
    tab.wait_for_status("finished")
    assert tab.page.is_hidden("#key-dialog")
