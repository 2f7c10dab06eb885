"""Frames come from one side of a scene cut; motion, light, flashes and fades are not cuts."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from intake.container import HEAD_BYTES, sniff
from video.frames import read_clip
from video.sampling import FrameRequest
from video.sandbox import ffmpeg_path
from video.scene_cuts import find_cuts

MEDIA = os.environ.get("TEST_MEDIA", "")
Frames = NDArray[np.uint8]


def scene(seed: int, count: int, pan_px: float = 2.0) -> Frames:
    """A wall of large spots in the scene's own colours, over which the camera pans."""
    chance = np.random.default_rng(seed)
    height, width = 96, 128
    wide = width + int(pan_px * count) + 1
    spots = cv2.GaussianBlur(chance.random((height, wide)).astype(np.float32), (0, 0), 6)
    spots = cv2.normalize(spots, None, 0, 1, cv2.NORM_MINMAX)[..., None]
    one, other = chance.integers(0, 255, (2, 3))
    wall = (one * spots + other * (1 - spots)).astype(np.uint8)
    return np.stack([wall[:, int(pan_px * k) : int(pan_px * k) + width] for k in range(count)])


def video(path: Path, frames: Frames, rate: int) -> Path:
    count, height, width, _ = frames.shape
    command = [ffmpeg_path(), "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24",
               "-s", f"{width}x{height}", "-r", str(rate), "-i", "-", "-c:v", "libx264",
               "-pix_fmt", "yuv420p", "-frames:v", str(count), str(path)]  # fmt: skip
    subprocess.run(command, input=frames.tobytes(), check=True)
    return path


def cut(*parts: tuple[int, int]) -> Frames:
    """Scenes one after the other: their seeds and numbers of frames."""
    return np.concatenate([scene(seed, count) for seed, count in parts])


@pytest.mark.parametrize(
    ("parts", "start", "first", "last"),
    [
        pytest.param([(1, 10), (2, 110)], 0, 10, 120, id="soon"),
        pytest.param([(1, 80), (2, 20)], 0, 0, 80, id="late"),
        pytest.param([(1, 20), (2, 50), (3, 50)], 0, 20, 70, id="two cuts"),
        pytest.param([(1, 10), (2, 80), (3, 60)], 0, 10, 90, id="one more after those looked at"),
        pytest.param([(4, 30), (1, 30), (2, 90)], 1.0, 30, 60, id="start is in a short scene"),
    ],
)
def test_frames_come_from_one_scene(
    parts: list[tuple[int, int]], start: float, first: int, last: int, tmp_path: Path
) -> None:
    path = video(tmp_path / "clip.mp4", cut(*parts), 30)
    clip, warnings = read_clip(path, "mov", FrameRequest(start=start, step=15))
    used = clip.source.used
    assert [warning.code for warning in warnings] == ["scene_cut"]
    assert first <= used[0] and used[-1] < last and len(used) in (16, 31)
    assert find_cuts(clip.frames) == ()
    assert f"from {used[0] / 30:.1f} s to {used[-1] / 30:.1f} s" in warnings[0].message


def test_a_cut_is_named_where_no_scene_is_long_enough(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", cut((1, 10), (2, 11), (3, 10)), 30)
    clip, warnings = read_clip(path, "mov")
    assert len(clip) == 31 and warnings[0].code == "scene_cut"
    assert "0.3 s and 0.7 s: frames of more than one" in warnings[0].message


def test_scenes_that_are_too_short_are_not_read(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", cut(*((seed, 12) for seed in range(1, 9))), 30)
    steps: list[int] = []
    _, warnings = read_clip(path, "mov", on_progress=lambda step, _: steps.append(step))
    assert "none is long enough alone" in warnings[0].message
    assert steps == [*range(1, 32), 0]  # all of it, then the last scene, which might go on


def test_the_clients_rate_is_given_up_rather_than_the_scene(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", cut((1, 40), (2, 20)), 30)
    clip, _ = read_clip(path, "mov", FrameRequest(fps=8))
    assert clip.source.used[-1] < 40 and len(clip) == 31


def test_pictures_of_a_zip_are_of_one_scene_too(tmp_path: Path) -> None:
    path = tmp_path / "frames.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for k, picture in enumerate(cut((1, 6), (2, 20))):
            zipped.writestr(f"{k:02d}.png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    clip, warnings = read_clip(path, "zip")
    assert clip.source.used == tuple(range(6, 26))
    assert "picture 7: only one is used, from picture 7 to picture 26" in warnings[0].message


def flash(frames: Frames) -> Frames:
    frames[7] = 255
    frames[11:13] = np.clip(frames[11:13] * 3.0 + 60, 0, 255)
    return frames


def lights_out(frames: Frames) -> Frames:
    frames[8:] = frames[8:] * 0.4
    return frames


def fade_in(frames: Frames) -> Frames:
    return (frames * np.linspace(0, 1, len(frames))[:, None, None, None]).astype(np.uint8)


def dissolve(frames: Frames) -> Frames:
    share = np.clip((np.arange(len(frames)) - 3) / 10, 0, 1)[:, None, None, None]
    return (frames * (1 - share) + scene(2, len(frames)) * share).astype(np.uint8)


@pytest.mark.parametrize("change", [flash, lights_out, fade_in, dissolve])
def test_no_change_of_light_and_no_slow_change_is_a_cut(change: object) -> None:
    assert callable(change)
    assert find_cuts(change(scene(1, 16))) == ()


def test_a_fast_pan_is_not_a_cut() -> None:
    assert find_cuts(scene(1, 31, pan_px=40)) == ()


@pytest.mark.slow
@pytest.mark.skipif(not MEDIA, reason="TEST_MEDIA is not set")
def test_real_clips_have_no_cut_but_the_one_that_has() -> None:
    found = {}
    for path in sorted(Path(MEDIA).glob("[cdf]*/*")):
        if not path.stem.endswith("_masks"):
            container = sniff(path.read_bytes()[:HEAD_BYTES])
            found[path.name] = [warning.code for warning in read_clip(path, container)[1]]
    cuts = [name for name, codes in found.items() if "scene_cut" in codes]
    assert len(found) == 28 and cuts == ["F5b_scene_cut.mp4"]
