"""Animated WebP as an upload: frames, alpha channel and times, compared with Pillow's reader."""

from __future__ import annotations

import subprocess
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from errors import VideoTooShort, VideoUnreadable
from intake.inspect import inspect
from video.frames import read_clip
from video.probe import probe
from video.sampling import FrameRequest
from video.sandbox import ffmpeg_path

_ABOUT = [ffmpeg_path(), "-hide_banner", "-h", "demuxer=webp_anim"]
pytestmark = pytest.mark.skipif(
    b"Unknown format" in subprocess.run(_ABOUT, capture_output=True).stdout,
    reason="this ffmpeg cannot read animated WebP",
)

CHANCE = np.random.default_rng(7)


def pictures(count: int, *, has_alpha: bool) -> list[Image.Image]:
    """A square that moves over a field of noise, which only some frames have."""
    made = []
    for k in range(count):
        frame = np.full((64, 96, 4), (60, 60, 60, 0 if has_alpha else 255), np.uint8)
        frame[10:40, 3 * k : 3 * k + 20] = (200, 90, 40, 255)
        if k % 3:
            frame[45:60, 10:80, :3] = CHANCE.integers(0, 255, (15, 70, 1))
            frame[45:60, 10:80, 3] = 128 if has_alpha else 255
        made.append(Image.fromarray(frame if has_alpha else frame[..., :3]))
    return made


def saved(path: Path, frames: list[Image.Image], **options: Any) -> Path:
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


def composed(path: Path) -> NDArray[np.uint8]:
    """RGBA (T, H, W, 4) as Pillow shows them: disposal and blending done."""
    with Image.open(path) as animation:
        frames = []
        for k in range(getattr(animation, "n_frames", 1)):
            animation.seek(k)
            frames.append(np.asarray(animation.convert("RGBA")))
    return np.stack(frames)


@pytest.mark.parametrize("has_alpha", [True, False])
@pytest.mark.parametrize(
    ("options", "mean_off"),
    [
        ({"lossless": True}, 0),
        ({"lossless": True, "minimize_size": True}, 0),
        ({"quality": 95}, 3),
        ({"allow_mixed": True, "quality": 95}, 3),
        ({"lossless": True, "kmin": 1, "kmax": 2}, 0),
    ],
)
def test_frames_are_composed_as_pillow_composes_them(
    has_alpha: bool, options: dict[str, Any], mean_off: int, tmp_path: Path
) -> None:
    path = saved(tmp_path / "input", pictures(16, has_alpha=has_alpha), format="webp",
                 duration=50, **options)  # fmt: skip
    assert inspect(path).container == "webp_anim"
    clip, _ = read_clip(path, "webp_anim")
    wanted = composed(path)
    assert clip.fps == 20 and clip.frames.shape == (16, 64, 96, 4 if has_alpha else 3)
    if has_alpha:
        assert np.array_equal(clip.frames[..., 3], wanted[..., 3])
    seen = wanted[..., 3] > 0
    off = np.abs(clip.frames[..., :3].astype(int) - wanted[..., :3])[seen]
    assert off.mean() <= mean_off


def test_frames_have_their_own_times(tmp_path: Path) -> None:
    times = [40 + 20 * (k % 4) for k in range(40)]
    path = saved(tmp_path / "input", pictures(40, has_alpha=True), format="webp", duration=times)
    found = probe(path, "webp_anim")
    assert found.times == pytest.approx([0, *accumulate(t / 1000 for t in times[:-1])])
    assert inspect(path, FrameRequest(fps=10)).used_frames == 16
    later = probe(path, "webp_anim", FrameRequest(start=1.0))
    assert later.source.used[0] == next(k for k, t in enumerate(found.times or ()) if t > 0.9999)


def test_too_few_frames_and_a_huge_canvas_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "input", pictures(15, has_alpha=True), format="webp")
    with pytest.raises(VideoTooShort):
        inspect(path)
    path = saved(tmp_path / "input", pictures(16, has_alpha=True), format="webp")
    content = bytearray(path.read_bytes())
    content[24:30] = b"\xff\x3f\0\xff\x3f\0"
    path.write_bytes(content)
    with pytest.raises(VideoUnreadable):
        inspect(path)
