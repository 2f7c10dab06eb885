"""Choosing the subject on the page: in the form, with every input device, and for an ended job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.servers import ProcessServer
from tests.web.browser import Tab
from tests.web.conftest import NewTab

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession

pytestmark = pytest.mark.timeout(240)

FORM, DIALOG = "#subject-field", "#subject-dialog"
HINT = "Drag a box around the subject, or click it."
JOB_S = 90
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}

Point = tuple[float, float]


def test_a_dragged_box_is_sent(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = choosing(sleeping_server, tab_at)
    drag(tab, (0.25, 0.1), (0.75, 0.9))
    assert near(sent_options(sleeping_server, tab)["subject_box"], (0.25, 0.1, 0.75, 0.9))


def test_a_tapped_point_is_sent(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = choosing(sleeping_server, tab_at)
    tab.page.mouse.click(*spot(tab, (0.5, 0.4)))
    options = sent_options(sleeping_server, tab)
    assert near(options["subject_point"], (0.5, 0.4))
    assert options["subject_box"] is None


def test_a_box_can_be_moved_resized_drawn_again_and_cleared(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = choosing(sleeping_server, tab_at)
    drag(tab, (0.2, 0.2), (0.5, 0.6))
    drag(tab, (0.3, 0.3), (0.4, 0.5))  # from inside: it moves
    assert shown(tab) == "Box from 30% to 60% across and from 40% to 80% down."
    drag(tab, (0.6, 0.8), (0.8, 0.9))  # from its lower right corner
    assert shown(tab) == "Box from 30% to 80% across and from 40% to 90% down."
    drag(tab, (0.3, 0.4), (-0.5, 0.1))  # the upper left corner, out of the picture
    assert shown(tab) == "Box from 0% to 80% across and from 10% to 90% down."
    drag(tab, (0.9, 0.95), (0.7, 0.5))  # from outside: a new one
    assert shown(tab) == "Box from 70% to 90% across and from 50% to 95% down."
    tab.page.click(f"{FORM} >> text=Clear")
    assert shown(tab) == HINT
    assert tab.page.is_hidden(f"{FORM} >> text=Clear")
    drag(tab, (0.5, 0.5), (0.51, 0.9))  # too narrow for a box
    assert shown(tab) == HINT


def test_the_keyboard_alone_chooses_a_box(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = choosing(sleeping_server, tab_at)
    tab.page.focus("#max-frames")
    tab.page.keyboard.press("Tab")
    assert tab.evaluate("() => document.activeElement.className.includes('picker-picture')")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        tab.page.keyboard.press(key)
    assert shown(tab) == "Box from 32% to 72% across and from 20% to 82% down."
    tab.page.keyboard.press("Escape")
    assert shown(tab) == HINT
    for key in ("ArrowUp", *["Shift+ArrowLeft"] * 30):  # it becomes small, never empty
        tab.page.keyboard.press(key)
    tab.page.click(f"{FORM} summary")
    tab.page.fill(f"{FORM} >> label:has-text('Right')", "10")
    assert "Left must be less than right" in shown(tab)
    tab.page.fill(f"{FORM} >> label:has-text('Left')", "5")
    assert sent_options(sleeping_server, tab)["subject_box"] == "0.05,0.2,0.1,0.8"


def test_a_choice_belongs_to_the_first_frame(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    """Another start drops it visibly; the same start, at any frame rate, keeps it."""
    tab = choosing(sleeping_server, tab_at)
    drag(tab, (0.2, 0.2), (0.5, 0.6))
    box = shown(tab)
    tab.page.select_option("#max-frames", "16")
    tab.page.fill("#fps", "8")
    assert shown(tab) == box
    tab.page.fill("#fps", "")
    tab.page.fill("#start", "1")
    assert shown(tab) == HINT
    assert "choice was made on the frame at 0.00 s" in tab.page.inner_text("#subject-note")
    tab.page.fill("#start", "0")
    assert shown(tab) == box
    assert "found for you" in tab.page.inner_text("#subject-note")
    tab.page.fill("#start", "1")
    assert sent_options(sleeping_server, tab)["subject_box"] is None


def test_another_clip_has_no_choice(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = choosing(sleeping_server, tab_at)
    drag(tab, (0.2, 0.2), (0.5, 0.6))
    tab.page.click("#other-clip")
    tab.choose()
    tab.page.wait_for_selector(f"{FORM}:not([hidden])")
    assert shown(tab) == HINT


def test_a_finger_taps_scrolls_and_draws(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = choosing(sleeping_server, tab_at, **PHONE)
    finger = tab.context.new_cdp_session(tab.page)
    swipe(tab, finger, (0.5, 0.8), (0.52, 0.2))
    tab.until("scrollY > 0")
    assert shown(tab) == "Tap the subject, or draw a box around it."
    tab.page.touchscreen.tap(*spot(tab, (0.4, 0.5)))
    assert shown(tab) == "Point at 40% across and 50% down."
    tab.page.tap(f"{FORM} >> text=Draw a box")
    before = tab.evaluate("() => scrollY")
    swipe(tab, finger, (0.3, 0.2), (0.7, 0.8))
    assert shown(tab) == "Box from 30% to 70% across and from 20% to 80% down."
    assert tab.evaluate("() => scrollY") == before
    swipe(tab, finger, (0.7, 0.8), (0.7, 0.9))  # a corner can always be pulled
    assert shown(tab) == "Box from 30% to 70% across and from 20% to 90% down."


def test_a_clip_that_the_browser_cannot_show_is_sent_without_a_choice(
    sleeping_server: ProcessServer, tab_at: NewTab, make_clip: Callable[..., Path]
) -> None:
    tab = tab_at(sleeping_server)
    tab.open()
    tab.choose(make_clip("old.avi", "testsrc2", 24, 2, "-c:v", "mpeg4"))
    assert "cannot show this clip" in tab.page.inner_text("#strip-text")
    assert "can be chosen afterwards" in tab.page.inner_text("#strip-text")
    assert tab.page.is_hidden(FORM)
    assert sent_options(sleeping_server, tab)["subject_box"] is None


def test_the_seed_is_offered_only_where_it_changes_the_mesh(
    server: ProcessServer, sleeping_server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    for running, is_offered in ((server, False), (sleeping_server, True)):
        tab = tab_at(running)
        tab.open()
        tab.choose()
        tab.until("document.querySelector('#max-frames').value")
        tab.page.click("text=More options")
        assert tab.page.is_visible("#seed") == is_offered
    tab = tab_at(server)
    tab.open(f"#job={finished}")
    tab.wait_for_status("finished")
    assert tab.page.is_hidden("#rerun")
    assert "seed" not in tab.page.inner_text("#about")
    assert "seed" not in str(tab.page.text_content("#curl"))


def test_another_subject_of_a_finished_job(
    server: ProcessServer, tab_at: NewTab, finished: str
) -> None:
    """Chosen in a frame of the job's own video; a retry, without an upload."""
    tab = tab_at(server)
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    tab.evaluate("() => actionmesh.playback.pauseAt(5)")
    open_dialog(tab, "Not this? Choose the subject")
    assert tab.page.is_disabled("#subject-use")
    tab.page.focus(f"{DIALOG} .picker-picture")
    tab.page.keyboard.press("ArrowRight")
    assert tab.evaluate("() => actionmesh.playback.frame") == 5, "keys reach the viewer"
    tab.page.keyboard.press("Escape")  # removes the box; the dialog stays open
    assert tab.page.is_visible(DIALOG)
    drag(tab, (0.1, 0.2), (0.9, 0.95), DIALOG)
    tab.page.click("#subject-use")
    tab.wait_for_another_job(finished)
    assert tab.page.is_hidden(DIALOG)
    job = job_of(server, tab)
    assert job["retry_of"] == finished
    assert near(job["options"]["subject_box"], (0.1, 0.2, 0.9, 0.95))
    httpx.post(f"{server.url}/jobs/{tab.job_id}/cancel")


def test_an_earlier_choice_is_shown_and_can_be_taken_back(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = choosing(sleeping_server, tab_at)
    drag(tab, (0.1, 0.1), (0.9, 0.9))
    sent_options(sleeping_server, tab)
    tab.wait_for_status("cancelled")
    first = tab.job_id
    open_dialog(tab, "Choose the subject")
    assert shown(tab, DIALOG) == "Box from 10% to 90% across and from 10% to 90% down."
    tab.page.click(f"{DIALOG} >> text=Clear")
    tab.page.click("#subject-use")
    tab.wait_for_another_job(first)
    assert job_of(sleeping_server, tab)["options"]["subject_box"] == "0,0,1,1"
    httpx.post(f"{sleeping_server.url}/jobs/{tab.job_id}/cancel")


def test_what_was_found_is_shown_before_the_mesh(
    start_server: Callable[..., ProcessServer], tab_at: NewTab
) -> None:
    """In the pane that will show the mesh: nothing on the page moves."""
    server = start_server(PIPELINE="tests.pipelines:FindsTheMiddleSlowly")
    tab = tab_at(server)
    tab.send()
    tab.page.wait_for_selector("#progress-value.is-percent")
    pane = tab.page.locator("#mesh-pane")
    before = pane.bounding_box()
    tab.page.wait_for_selector("#found canvas")
    assert tab.page.inner_text("#mesh-text") == "What was found"
    assert pane.bounding_box() == before
    assert tab.page.is_hidden("#clip-preview")
    size = "document.querySelector('#found canvas')"
    assert tab.evaluate(f"() => [{size}.width, {size}.height]") == [
        4 * 180 + 3 * 4,
        2 * 180 + 4,
    ]  # 8 square frames in 2 rows
    tab.page.click("#cancel")
    tab.wait_for_status("cancelled")
    open_dialog(tab, "Choose the subject")  # not this: there is no need to wait for the mesh


def test_boxes_and_frames_of_warnings_can_be_used(
    start_server: Callable[..., ProcessServer], tab_at: NewTab
) -> None:
    server = start_server(PIPELINE="tests.pipelines:SeesTwoSubjects")
    tab = tab_at(server)
    job_id = tab.send()
    tab.wait_for_status("finished", JOB_S)
    tab.wait_for_viewer()
    assert "There are 2 subjects." in tab.page.inner_text("#warnings")
    tab.page.click("#warnings >> text=12")
    assert tab.evaluate("() => [actionmesh.playback.frame, actionmesh.playback.isPlaying]") == [
        12,
        False,
    ]
    open_dialog(tab, "Not this? Choose the subject")
    assert tab.page.locator(f"{DIALOG} .found-box").count() == 2
    tab.page.click("text=Use subject 2")
    assert shown(tab, DIALOG) == "Box from 50% to 85% across and from 25% to 95% down."
    tab.page.click("#subject-use")
    tab.wait_for_another_job(job_id)
    assert job_of(server, tab)["options"]["subject_box"] == "0.5,0.25,0.85,0.95"


def test_a_failed_job_asks_for_the_subject_while_the_browser_has_the_clip(
    start_server: Callable[..., ProcessServer], tab_at: NewTab
) -> None:
    server = start_server(PIPELINE="tests.pipelines:FindsNothing")
    tab = tab_at(server)
    tab.expected = ("status of 404", "status of 409", "mesh cannot be shown")
    job_id = tab.send()
    tab.wait_for_status("error", JOB_S)
    assert tab.page.inner_text("#outcome .primary") == "Choose the subject"
    open_dialog(tab, "Choose the subject")
    tab.page.mouse.click(*spot(tab, (0.5, 0.5), DIALOG))
    tab.page.click("#subject-use")
    tab.wait_for_another_job(job_id)
    assert near(job_of(server, tab)["options"]["subject_point"], (0.5, 0.5))
    tab.wait_for_status("error", JOB_S)
    open_dialog(tab, "Choose the subject")  # the retry is of the same clip
    tab.page.click("#subject-cancel")
    tab.page.reload()
    tab.wait_for_status("error")
    assert "Send it again to choose the subject" in tab.page.inner_text("#outcome")
    assert tab.page.locator("#outcome >> text='Choose the subject'").count() == 0


@pytest.mark.parametrize("width", [320, 390])
def test_the_picker_fits_a_phone(
    server: ProcessServer, tab_at: NewTab, finished: str, width: int
) -> None:
    tab = choosing(server, tab_at, viewport={"width": width, "height": 844})
    fits = "() => document.documentElement.scrollWidth <= innerWidth"
    tab.page.click(f"{FORM} summary")
    assert tab.evaluate(fits)
    tab.open(f"#job={finished}")
    tab.wait_for_viewer()
    open_dialog(tab, "Not this? Choose the subject")
    tab.page.click(f"{DIALOG} summary")
    assert tab.evaluate(fits)
    dialog = f"document.querySelector('{DIALOG}')"
    assert tab.evaluate(f"() => {dialog}.scrollWidth <= {dialog}.clientWidth")


# --- helpers


def choosing(server: ProcessServer, tab_at: NewTab, **options: Any) -> Tab:
    """A tab with the example clip in the form, and its first frame shown."""
    tab = tab_at(server, **options)
    tab.open()
    tab.choose()
    until_pictured(tab, FORM)
    tab.until("document.querySelector('#max-frames').value")
    return tab


def open_dialog(tab: Tab, button: str) -> None:
    tab.page.click(f"button:text-is('{button}'):visible")
    until_pictured(tab, DIALOG)


def until_pictured(tab: Tab, place: str) -> None:
    """Until the picker shows a frame of the example, which is 512 pixels wide."""
    tab.until(f"document.querySelector('{place} .picker-picture canvas')?.width === 512")


def spot(tab: Tab, at: Point, place: str = FORM) -> Point:
    """Where this part of the picture is in the window."""
    picture = tab.page.locator(f"{place} .picker-picture")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box is not None
    return box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"]


def drag(tab: Tab, begin: Point, end: Point, place: str = FORM) -> None:
    """With the mouse, in parts of the picture."""
    tab.page.mouse.move(*spot(tab, begin, place))
    tab.page.mouse.down()
    tab.page.mouse.move(*spot(tab, end, place), steps=4)
    tab.page.mouse.up()


def swipe(tab: Tab, finger: CDPSession, begin: Point, end: Point) -> None:
    """With a finger, in parts of the form's picture."""
    (x0, y0), (x1, y1) = spot(tab, begin), spot(tab, end)
    steps = [(x0 + (x1 - x0) * k / 8, y0 + (y1 - y0) * k / 8) for k in range(9)]
    for kind, places in (("touchStart", steps[:1]), ("touchMove", steps[1:])):
        for x, y in places:
            points = [{"x": x, "y": y}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def shown(tab: Tab, place: str = FORM) -> str:
    """What the picker says is chosen."""
    return str(tab.page.inner_text(f"{place} .picker-text"))


def sent_options(server: ProcessServer, tab: Tab) -> dict[str, Any]:
    """Send the form; the options of the job, which is cancelled."""
    tab.page.click("#submit")
    tab.until("location.hash.startsWith('#job=')")
    options: dict[str, Any] = job_of(server, tab)["options"]
    httpx.post(f"{server.url}/jobs/{tab.job_id}/cancel")
    return options


def job_of(server: ProcessServer, tab: Tab) -> dict[str, Any]:
    """The job that the page shows."""
    job: dict[str, Any] = httpx.get(f"{server.url}/jobs/{tab.job_id}").json()
    return job


def near(text: str, wanted: tuple[float, ...]) -> bool:
    """True if each number is within a pixel or two of the one wanted."""
    found = [float(part) for part in text.split(",")]
    return len(found) == len(wanted) and all(
        abs(a - b) < 0.01 for a, b in zip(found, wanted, strict=True)
    )
