"""Match video: the mesh seen from where its video was filmed, with the video over it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.servers import ProcessServer, process_server
from tests.web.browser import SIZES, Tab
from tests.web.conftest import NewTab
from tests.web.filmed import HEIGHT, WIDTH, filmed_video

pytestmark = pytest.mark.timeout(300)

MATCHES = "!document.querySelector('#overlay').hidden"
IS_FREE = "document.querySelector('#match').getAttribute('aria-pressed') === 'false'"


@pytest.fixture(scope="module")
def filming_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    """A server that returns the mesh of which its video was drawn."""
    with process_server(
        tmp_path_factory.mktemp("filming"), PIPELINE="tests.web.filmed:Filmed"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def filmed_job(filming_server: ProcessServer) -> str:
    """The id of its finished job."""
    return finished_job(filming_server, filmed_video())


def finished_job(server: ProcessServer, clip: bytes, **options: str) -> str:
    """Send a clip; the job's id once it is finished."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        job = http.post("/jobs", files={"file": clip}, data=options).json()
        while job.get("status") in ("queued", "running"):
            job = http.get(f"/jobs/{job['job_id']}?wait=30").json()
        assert job["status"] == "finished", job
        return str(job["job_id"])


def open_paused(tab: Tab, job_id: str) -> None:
    """Show the job's mesh; with reduced motion it does not play."""
    tab.open(f"#job={job_id}")
    tab.wait_for_viewer()


def show(tab: Tab, frame: int, fade: float) -> NDArray[np.int64]:
    """The canvas at this frame with so much video over it, `(H, W, 3)`."""
    tab.evaluate(
        """([frame, fade]) => { actionmesh.playback.pauseAt(frame);
        const slider = document.querySelector('#fade');
        slider.value = fade; slider.dispatchEvent(new Event('input')); }""",
        [frame, fade],
    )
    tab.until("!document.querySelector('#source').seeking")
    drawn = tab.evaluate("() => { actionmesh.scene.requestDraw(); return actionmesh.scene.drawn }")
    tab.until(f"actionmesh.scene.drawn > {drawn}")
    png = np.frombuffer(tab.picture("#mesh-canvas"), np.uint8)
    return np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR), np.int64)


def inside_video(canvas: NDArray[np.int64], shape: float) -> NDArray[np.int64]:
    """The part of the canvas that the video fills, without its outermost pixels."""
    height, width = canvas.shape[:2]
    wide, high = min(width, height * shape), min(height, width / shape)
    x, y = round((width - wide) / 2) + 3, round((height - high) / 2) + 3
    return canvas[y : height - y, x : width - x]


def is_subject(picture: NDArray[np.int64]) -> NDArray[np.bool_]:
    """What differs from the background, which is that of the upper left corner."""
    return np.asarray(np.abs(picture - picture[12, 12]).max(axis=2) > 25)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """IoU of two masks."""
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(("size", "scheme"), [("laptop", "light"), ("phone", "dark")])
def test_the_mesh_lies_where_the_video_shows_it(
    filming_server: ProcessServer, tab_at: NewTab, filmed_job: str, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    tab = tab_at(
        filming_server,
        reduced_motion="reduce",
        color_scheme=scheme,
        viewport={"width": width, "height": height},
    )
    open_paused(tab, filmed_job)
    tab.page.click("text=Normals")  # strong colours
    tab.page.click("#match")
    tab.until(MATCHES)
    for frame in (0, 11):
        mesh, video = (
            is_subject(inside_video(show(tab, frame, fade), WIDTH / HEIGHT)) for fade in (0, 1)
        )
        assert 0.02 < video.mean() < 0.5, "no video"
        assert overlap(mesh, video) >= 0.93, frame


def test_baked_colours_look_like_the_video(
    filming_server: ProcessServer, tab_at: NewTab, filmed_job: str
) -> None:
    """The video's light is in them: the viewer's own must not come on top."""
    tab = tab_at(filming_server, reduced_motion="reduce")
    open_paused(tab, filmed_job)
    tab.page.click("#match")
    tab.until(MATCHES)
    mesh, video = (inside_video(show(tab, 5, fade), WIDTH / HEIGHT) for fade in (0, 1))
    inside = (is_subject(mesh) & is_subject(video)).astype(np.uint8)
    inside = cv2.erode(inside, np.ones((7, 7), np.uint8)) > 0
    # what lies next to outlines in all frames is filled: 3 of 255 here. Lit twice it is 20 to 30
    assert np.abs(mesh[inside].mean(axis=0) - video[inside].mean(axis=0)).max() < 6


def test_a_silhouette_lies_on_its_video(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    """Its camera is orthographic."""
    job = httpx.get(f"{server.url}/jobs/{finished}").json()
    masks = zipfile.ZipFile(io.BytesIO(httpx.get(server.url + job["outputs"]["masks"]).content))
    tab = tab_at(server, reduced_motion="reduce")
    open_paused(tab, finished)
    tab.page.click("text=Normals")
    tab.page.click("#match")
    tab.until(MATCHES)
    for frame in (0, 20):
        mesh = is_subject(inside_video(show(tab, frame, 0), 1))
        mask = cv2.imdecode(np.frombuffer(masks.read(masks.namelist()[frame]), np.uint8), 0)
        height, width = mesh.shape
        wanted = cv2.resize(np.asarray(mask), (width, height), interpolation=cv2.INTER_AREA) > 127
        assert overlap(mesh, wanted) >= 0.93, frame


def test_the_keyboard_matches_the_video_and_leaves_it(
    filming_server: ProcessServer, tab_at: NewTab, filmed_job: str
) -> None:
    tab = tab_at(filming_server, reduced_motion="reduce")
    keys = tab.page.keyboard
    open_paused(tab, filmed_job)
    keys.press("t")
    for leave in ("m", "Escape", "r"):
        keys.press("m")
        tab.until(MATCHES)
        assert tab.page.get_attribute("#turntable", "aria-pressed") == "false", "it would turn away"
        assert "where the video was filmed" in tab.page.inner_text("#announcer")
        tab.focus_by_tab_key("fade")
        keys.press("End")
        assert tab.page.get_attribute("#fade", "aria-valuetext") == "100% video"
        assert tab.evaluate("() => actionmesh.playback.frame") == 0, "the key is the slider's"
        keys.press("Home")
        assert tab.evaluate("() => document.querySelector('#overlay').style.opacity") == "0"
        keys.press(leave)
        tab.until(f"!({MATCHES}) && {IS_FREE}")
        assert tab.page.locator("#fade").is_hidden()
        assert "usual camera" in tab.page.inner_text("#announcer")


@pytest.mark.parametrize("reduced_motion", ["reduce", "no-preference"])
def test_a_turn_leads_back_to_the_usual_camera(
    filming_server: ProcessServer, tab_at: NewTab, filmed_job: str, reduced_motion: str
) -> None:
    tab = tab_at(filming_server, reduced_motion=reduced_motion)
    open_paused(tab, filmed_job)
    tab.evaluate("() => actionmesh.playback.pauseAt(3)")
    tab.page.click("#match")
    tab.until(MATCHES)
    box = tab.page.locator("#mesh-canvas").bounding_box()
    assert box
    tab.page.mouse.move(box["x"] + 200, box["y"] + 200)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 260, box["y"] + 210, steps=4)
    tab.page.mouse.up()
    tab.until(f"!({MATCHES}) && {IS_FREE}")
    tab.until("!actionmesh.scene.isAtVideo")


def test_a_touch_leads_back_too(
    filming_server: ProcessServer, tab_at: NewTab, filmed_job: str
) -> None:
    width, height = SIZES["phone"]
    tab = tab_at(filming_server, has_touch=True, viewport={"width": width, "height": height})
    open_paused(tab, filmed_job)
    tab.page.tap("#match")
    tab.until(MATCHES)
    box = tab.page.locator("#mesh-canvas").bounding_box()
    assert box
    x, y = box["x"] + 100, box["y"] + 100
    touches = tab.context.new_cdp_session(tab.page)
    for kind, moved in (("touchStart", 0), ("touchMove", 20), ("touchMove", 50)):
        points = [{"x": x + moved, "y": y}]
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touches.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tab.until(f"!({MATCHES}) && {IS_FREE}")


def test_the_score_leads_to_the_worst_frame(
    filming_server: ProcessServer, tab_at: NewTab, filmed_job: str
) -> None:
    job = httpx.get(f"{filming_server.url}/jobs/{filmed_job}").json()
    tab = tab_at(filming_server, reduced_motion="reduce")
    open_paused(tab, filmed_job)
    tab.until("actionmesh.playback.frame === 0")
    score = tab.page.inner_text("#score")
    mean = int(job["score"]["outline_mean"] * 100)
    assert score.startswith("Good fit.") and f"{mean}% on average" in score, score
    assert "The motion follows the video." in score
    assert "from the video" in tab.page.inner_text("#about")
    tab.page.click("#worst-frame")
    tab.until(MATCHES)
    assert tab.evaluate("() => actionmesh.playback.frame") == job["score"]["worst_frame"] != 0
    tab.page.keyboard.press("Escape")
    tab.until(IS_FREE)
    assert tab.page.locator("#score [title]").count() == job["mesh"]["timesteps"]
    tab.page.click("#score [title^='Frame 11:']")
    tab.until(MATCHES)
    assert tab.evaluate("() => actionmesh.playback.frame") == 11


def test_a_job_whose_meshes_are_not_coloured_says_why(
    filming_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = tab_at(filming_server, reduced_motion="reduce")
    open_paused(tab, finished_job(filming_server, filmed_video(), texture="none"))
    assert "none. The job asked for none." in tab.page.inner_text("#about")
    tab.page.click("text=The same with curl")
    assert "-F texture=none" in tab.page.inner_text("#curl")


def test_the_shapes_that_were_tried_are_listed(
    start_server: Callable[..., ProcessServer], tab_at: NewTab, make_clip: Callable[..., Path]
) -> None:
    server = start_server(PIPELINE="tests.pipelines:MakesManyBoxesSlowly")
    tab = tab_at(server, reduced_motion="reduce")
    tab.open()
    tab.choose(make_clip("tries.mp4", "testsrc2", 24, 1.5))
    tab.page.click("text=More options")
    assert tab.page.get_attribute("#tries", "max") == "8"
    tab.page.fill("#tries", "3")
    tab.page.uncheck("#texture")
    tab.page.click("#submit")
    tab.until("document.querySelectorAll('#tried li').length === 3")
    assert tab.page.get_attribute("#job", "data-status") == "running"
    assert tab.page.locator("#tried li").first.inner_text() == "Shape 1"
    tab.wait_for_status("finished")
    tab.page.wait_for_selector("#tried li:has-text('chosen')")
    assert "seed 45" in tab.page.inner_text("#about")
    rows = tab.page.locator("#tried li").all_inner_texts()
    assert [row.split() for row in rows] == [
        ["Seed", "45,", "chosen", "outline", "90%"],
        ["Seed", "44", "outline", "65%"],
        ["Seed", "46", "outline", "65%"],
    ]
    with tab.page.expect_download() as download:
        tab.page.click("#tried a")
    assert download.value.suggested_filename == "seed_45.glb"
    options = httpx.get(f"{server.url}/jobs/{tab.job_id}").json()["options"]
    assert (options["tries"], options["texture"]) == (3, "none")


def test_silhouette_asks_for_no_tries(server: ProcessServer, tab_at: NewTab) -> None:
    tab = tab_at(server)
    tab.open()
    tab.choose()
    tab.page.click("text=More options")
    assert tab.page.locator("#texture").is_checked()
    assert tab.page.locator("#tries").is_hidden()
