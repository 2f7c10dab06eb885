"""The form for a new job: choosing a clip in several ways, its frames, its options, warnings."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.servers import ProcessServer
from tests.video.clips import numbers, pictures
from tests.web.conftest import NewTab

pytestmark = pytest.mark.timeout(240)

STRIP = """() => [...document.querySelectorAll('#strip canvas')].map((canvas) => {
  const { width, height } = canvas;
  return [width, height, [...canvas.getContext('2d').getImageData(0, 0, width, height).data]];
})"""


def test_a_clip_that_is_too_short_cannot_be_sent(
    sleeping_server: ProcessServer, tab_at: NewTab, make_clip: Callable[..., Path]
) -> None:
    tab = tab_at(sleeping_server)
    tab.open()
    tab.choose(make_clip("short.mp4", "testsrc2", 24, 0.4))
    tab.page.wait_for_selector("#form-warnings li")
    assert "10 frames; 16 are needed" in tab.page.inner_text("#form-warnings")
    assert tab.page.is_disabled("#submit")


def test_start_and_frame_rate_change_the_strip(
    sleeping_server: ProcessServer, tab_at: NewTab, make_clip: Callable[..., Path]
) -> None:
    tab = tab_at(sleeping_server)
    tab.open()
    tab.choose(make_clip("long.mp4", "testsrc2", 30, 6))
    assert "every 3rd frame" in tab.page.inner_text("#strip-text")
    assert "The last" in tab.page.inner_text("#form-warnings")
    lengths = tab.page.locator("#max-frames option")
    assert "60 frames: 6.0 s at 10/s, whole clip" in lengths.all_inner_texts()
    tab.page.select_option("#max-frames", "121")
    assert tab.page.locator("#strip li").count() == 32  # spread over the 121
    ends = [tab.page.locator(f"#strip li:{end}-child") for end in ("first", "last")]
    assert [end.get_attribute("title") for end in ends] == ["0.00 s", "4.00 s"]
    assert "121 frames, every frame: 4.0 s" in tab.page.inner_text("#strip-text")
    assert "about 4 times as long as 31 frames" in tab.page.inner_text("#expected-wait")
    tab.page.fill("#start", "2")
    assert tab.page.inner_text("#used-from") == "2.00 s"
    tab.page.fill("#fps", "15")
    assert "15 per second" in tab.page.inner_text("#strip-text")
    assert tab.page.get_attribute("#fps", "max") == "60"  # as /info tells
    tab.page.select_option("#max-frames", "16")
    assert tab.page.locator("#strip li").count() == 16
    assert lengths.last.inner_text() == "60 frames: 4.0 s at 15/s, to the end"
    tab.page.select_option("#max-frames", lengths.last.get_attribute("value"))
    tab.page.click("text=More options")
    tab.page.check("#extras input[value=skinned]")
    tab.page.check("#extras input[value=npz]")
    tab.page.click("#submit")
    tab.until("location.hash.startsWith('#job=')")
    job = httpx.get(f"{sleeping_server.url}/jobs/{tab.job_id}").json()
    assert (job["options"]["start"], job["options"]["fps"]) == (2.0, 15.0)
    assert (job["input"]["used_frames"], job["input"]["fps"]) == (60, 15.0)
    assert job["options"]["formats"] == ["skinned", "npz"]
    tab.page.click("#cancel")


def test_a_zip_shows_its_own_pictures(
    sleeping_server: ProcessServer, tab_at: NewTab, tmp_path: Path
) -> None:
    """In natural order, deflated or not, without the files that file managers add."""
    path = tmp_path / "frames.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("__MACOSX/._frame_1.png", b"junk")
        for k, content in reversed(list(enumerate(pictures(tmp_path, 20)))):
            packing = zipfile.ZIP_DEFLATED if k % 2 else zipfile.ZIP_STORED
            zipped.writestr(f"shot/frame_{k}.png", content, packing)
    tab = tab_at(sleeping_server)
    tab.open()
    tab.choose(path)
    tab.until("document.querySelectorAll('#strip canvas').length === 20")
    shown = [
        np.array(pixels, np.uint8).reshape(height, width, 4)[:, :, :3]
        for width, height, pixels in tab.evaluate(STRIP)
    ]
    assert numbers(np.stack(shown)) == list(range(20))
    assert "20 pictures" in tab.page.inner_text("#clip-facts")
    assert "20 frames, every frame" in tab.page.inner_text("#strip-text")
    tab.page.fill("#fps", "8")
    tab.page.fill("#start", "0.5")
    assert tab.page.inner_text("#used-from") == "frame_4.png"
    tab.page.click("#submit")
    tab.wait_for_status("finished", 90)
    job = httpx.get(f"{sleeping_server.url}/jobs/{tab.job_id}").json()
    assert job["source"]["used"] == list(range(4, 20))


def test_a_zip_with_too_few_pictures_cannot_be_sent(
    sleeping_server: ProcessServer, tab_at: NewTab, tmp_path: Path
) -> None:
    path = tmp_path / "few.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for k, content in enumerate(pictures(tmp_path, 9)):
            zipped.writestr(f"{k}.png", content)
    tab = tab_at(sleeping_server)
    tab.open()
    tab.choose(path)
    tab.page.wait_for_selector("#form-warnings li")
    assert "9 frames; 16 are needed. Put more" in tab.page.inner_text("#form-warnings")
    assert tab.page.is_disabled("#submit")


def test_every_format_that_the_server_reads_can_be_chosen(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = tab_at(sleeping_server)
    tab.open()
    offered = str(tab.page.get_attribute("#file", "accept")).split(",")
    formats = httpx.get(f"{sleeping_server.url}/info").json()["limits"]["formats"]
    assert {f".{name}" for name in formats} <= set(offered)


def test_the_form_says_which_pipeline_runs(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = tab_at(sleeping_server)
    tab.open()
    tab.page.wait_for_selector("#pipeline-note:not([hidden])")
    assert "guessed by inflating" in tab.page.inner_text("#pipeline-note")
    tab.choose()
    assert "No GPU here. Silhouette runs" in tab.page.inner_text("#mode-note")


def test_pasting_an_address_chooses_it(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = tab_at(sleeping_server)
    tab.open()
    tab.until("document.querySelector('#server-info').textContent")
    tab.evaluate("""() => {
      const transfer = new DataTransfer();
      transfer.setData('text', 'https://example.com/films/cat.mp4?token=1');
      document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer }));
    }""")
    assert tab.page.inner_text("#clip-name") == "example.com/films/cat.mp4"


def test_dropping_a_file_chooses_it(sleeping_server: ProcessServer, tab_at: NewTab) -> None:
    tab = tab_at(sleeping_server)
    tab.open()
    tab.evaluate("""async () => {
      const transfer = new DataTransfer();
      const clip = await (await fetch('example.mp4')).blob();
      transfer.items.add(new File([clip], 'dropped.mp4', { type: 'video/mp4' }));
      dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }));
    }""")
    tab.until("document.querySelectorAll('#strip canvas').length === 31")
    assert tab.page.inner_text("#clip-name") == "dropped.mp4"


def test_a_link_dropped_on_the_area_is_chosen(
    sleeping_server: ProcessServer, tab_at: NewTab
) -> None:
    tab = tab_at(sleeping_server)
    tab.open()
    tab.until("document.querySelector('#server-info').textContent")
    tab.evaluate("""() => {
      const transfer = new DataTransfer();
      transfer.setData('text/uri-list', 'https://example.com/cat.webm');
      const options = { dataTransfer: transfer, cancelable: true, bubbles: true };
      document.querySelector('#drop-area').dispatchEvent(new DragEvent('drop', options));
    }""")
    assert tab.page.inner_text("#clip-name") == "example.com/cat.webm"
    assert "cannot be shown before" in tab.page.inner_text("#strip-text")
    assert tab.page.is_enabled("#submit")
