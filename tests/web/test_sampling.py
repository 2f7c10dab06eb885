"""Page and server choose the same frames: web/*.js, run in Chromium, compared with video/."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from errors import VideoTooShort
from tests.servers import ProcessServer
from tests.web.conftest import NewTab
from video.frames_zip import FramesZip
from video.probe import probe
from video.sampling import FALLBACK_FPS, FrameRequest, choose_frames

MANY = """async (cases) => {
  const { sample } = await import('/sampling.js');
  return cases.map(([times, fps, maxFrames]) => sample(times, { fps, maxFrames }));
}"""
TIMES = """async () => {
  const { frameTimes } = await import('/mp4_index.js');
  return frameTimes(document.querySelector('#file').files[0]);
}"""
ENTRIES = """async () => {
  const { frameEntries } = await import('/frames_zip.js');
  return (await frameEntries(document.querySelector('#file').files[0])).map(({ name }) => name);
}"""
PLANS = """async (requests) => {
  const { FramesZip } = await import('/frames_zip.js');
  const zip = new FramesZip(document.querySelector('#file').files[0]);
  await zip.open();
  return requests.map(([start, fps, maxFrames]) => zip.plan({ start, fps, maxFrames }));
}"""


def _cases() -> list[tuple[list[float], float | None, int]]:
    """Constant, irregular and unusable times, with and without a requested frame rate."""
    rng = random.Random(5)
    cases: list[tuple[list[float], float | None, int]] = []
    for _ in range(300):
        rate = rng.choice([5.0, 8.0, 12.0, 15.0, 24.0, 24000 / 1001, 25.0, 30.0, 60.0, 120.0])
        jitter = rng.choice([0.0, 0.0, 0.001, 0.3, 0.9])
        count = rng.choice([3, 15, 16, 17, 30, 31, 32, 61, 62, 75, 200])
        times = sorted((k + rng.uniform(0, jitter)) / rate for k in range(count))
        if rng.random() < 0.05:
            times = [0.0] * count
        fps = rng.choice([None, None, None, 1.0, 4.0, 8.0, 12.0, 24.0, 60.0])
        cases.append((times, fps, rng.choice([31, 31, 31, 16, 20])))
    return cases


def test_page_and_server_choose_the_same_frames(server: ProcessServer, tab_at: NewTab) -> None:
    tab = tab_at(server)
    tab.open()
    cases = _cases()
    for (times, fps, most), chosen in zip(cases, tab.evaluate(MANY, cases), strict=True):
        case = f"{len(times)} frames, fps={fps}, max_frames={most}"
        try:
            ours = choose_frames(times, len(times), FrameRequest(0.0, fps, most, step=15))
        except VideoTooShort as refusal:
            assert chosen.get("tooShort") == refusal.facts["frames"], case
            continue
        assert tuple(chosen["used"]) == ours.used, case
        assert chosen["fps"] == pytest.approx(ours.fps, abs=1.1e-4), case
        has_tail = any(warning.code == "unused_tail" for warning in ours.warnings)
        assert (chosen["unused"] > 0) == has_tail, case


@pytest.mark.parametrize(
    ("name", "fps", "args"),
    [
        ("plain.mp4", 24, ()),
        ("b_frames.mp4", 30000 / 1001, ("-c:v", "libx264", "-bf", "3")),
        ("index_last.mov", 12.5, ("-c:v", "mpeg4")),
        ("index_first.mp4", 50, ("-movflags", "+faststart")),
    ],
)
def test_frame_times_from_the_index_match_the_servers(
    server: ProcessServer,
    tab_at: NewTab,
    make_clip: Callable[..., Path],
    name: str,
    fps: float,
    args: tuple[str, ...],
) -> None:
    clip = make_clip(name, "testsrc2", fps, 2, *args)
    tab = tab_at(server)
    tab.open()
    tab.page.set_input_files("#file", clip)
    times: list[float] = tab.evaluate(TIMES)
    probed = probe(clip, "mov")
    assert probed.times is not None
    assert times == pytest.approx([time - probed.times[0] for time in probed.times], abs=2e-3)


@pytest.mark.parametrize("name", ["fragmented.mp4", "clip.webm", "clip.avi"])
def test_frame_times_of_other_files_are_unknown(
    server: ProcessServer, tab_at: NewTab, make_clip: Callable[..., Path], name: str
) -> None:
    args: dict[str, tuple[Any, ...]] = {"fragmented.mp4": ("-movflags", "frag_keyframe+empty_moov")}
    tab = tab_at(server)
    tab.open()
    tab.page.set_input_files("#file", make_clip(name, "testsrc2", 20, 1.5, *args.get(name, ())))
    assert tab.evaluate(TIMES) is None


def test_frames_of_a_clip_without_an_index_are_estimated_and_marked_about(
    server: ProcessServer, tab_at: NewTab, make_clip: Callable[..., Path]
) -> None:
    tab = tab_at(server)
    tab.open()
    tab.choose(make_clip("estimated.webm", "testsrc2", 20, 1.5))
    tab.until("document.querySelector('#strip').children.length > 0")
    assert "about" in tab.page.inner_text("#strip-text")
    assert 16 <= tab.page.locator("#strip li").count() <= 31


def test_page_and_server_use_the_same_pictures_of_a_zip(
    server: ProcessServer, tab_at: NewTab, tmp_path: Path
) -> None:
    """The same names in the same order, and the same choice with the same options."""
    rng = random.Random(8)
    words = ["a", "B", "b", "f_", "10", "2", "02", "007", ".", "/", " ", "é"]
    names = {"".join(rng.choices(words, k=rng.randint(1, 6))) + ".png" for _ in range(120)}
    names |= {"Thumbs.db", "__MACOSX/x.png", "folder/", "deep/folder/y.png"}
    path = tmp_path / "frames.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name in rng.sample(sorted(names), len(names)):
            zipped.writestr(name, b"\x89PNG\r\n\x1a\n" if not name.endswith("/") else b"")
    tab = tab_at(server)
    tab.open()
    tab.page.set_input_files("#file", path)
    with FramesZip(path) as zipped_frames:
        ordered = [picture.entry.name for picture in zipped_frames.pictures]
    assert tab.evaluate(ENTRIES) == ordered
    starts = [0, 0.3, 0.5, 1.25, 2.5, 7, 100]
    requests = [
        (start, fps, most) for start in starts for fps in (None, 5, 24) for most in (31, 16)
    ]
    for (start, fps, most), chosen in zip(requests, tab.evaluate(PLANS, requests), strict=True):
        first = round(min(start * (fps or FALLBACK_FPS), len(ordered)))
        try:
            ours = choose_frames(None, len(ordered) - first, FrameRequest(0.0, fps, most, step=15))
        except VideoTooShort as refusal:
            assert chosen["tooShort"] == refusal.facts["frames"]
            continue
        assert chosen["used"] == [first + pick for pick in ours.used], (start, fps, most)
        assert chosen["fps"] == ours.fps
