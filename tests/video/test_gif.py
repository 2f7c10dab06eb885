"""GIF as an upload: frames, times and transparency, compared with Pillow's reader."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from errors import VideoTooShort, VideoUnreadable
from intake.inspect import inspect
from tests.video.clips import ffmpeg, numbered, numbers
from tests.video.test_animated_webp import composed
from video.frames import read_clip
from video.probe import probe
from video.sampling import FrameRequest


def pictures(count: int) -> list[Image.Image]:
    """A square that moves over a transparent field, with a hole in it."""
    made = []
    for k in range(count):
        frame = np.zeros((64, 96, 4), np.uint8)
        frame[10:40, 2 * k : 2 * k + 16] = (200, 90, 40, 255)
        frame[20:30, 2 * k + 5 : 2 * k + 10] = 0
        made.append(Image.fromarray(frame))
    return made


def saved(path: Path, frames: list[Image.Image], duration: int | list[int], disposal: int) -> Path:
    frames[0].save(path, format="gif", save_all=True, append_images=frames[1:], duration=duration,
                   disposal=disposal, loop=0)  # fmt: skip
    return path


def blocks(*frames: tuple[tuple[int, int, int, int], int, bool], delay: int = 5) -> bytes:
    """A GIF of 32 x 32; a frame is (left, top, width, height), disposal, and whether its first half
    is the transparent colour. The first has colour 1, the others 2.
    """
    palette = bytes((0, 0, 0, 250, 0, 0, 0, 250, 0, 0, 0, 250))
    out = b"GIF89a" + struct.pack("<HHBBB", 32, 32, 0xF1, 0, 0) + palette
    for k, ((left, top, width, height), disposal, has_holes) in enumerate(frames):
        clear = width * height // 2 if has_holes else 0
        pixels = [0] * clear + [1 + (k > 0)] * (width * height - clear)
        bits = "".join(f"{code:03b}"[::-1] for pixel in pixels for code in (4, pixel)) + "101"
        bits += "0" * (-len(bits) % 8)
        data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
        out += b"\x21\xf9\4" + struct.pack("<BHB", disposal << 2 | has_holes, delay, 0) + b"\0"
        out += b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0) + b"\2"
        for at in range(0, len(data), 255):
            part = data[at : at + 255]
            out += bytes([len(part)]) + part
        out += b"\0"
    return out + b";"


WHOLE = (0, 0, 32, 32)


def alpha_of(clip_frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    assert clip_frames.shape[3] == 4
    return clip_frames[..., 3]


def test_a_transparent_background_is_an_alpha_channel(tmp_path: Path) -> None:
    path = saved(tmp_path / "input", pictures(18), 50, disposal=2)
    assert inspect(path).container == "gif"
    clip, _ = read_clip(path, "gif")
    wanted = composed(path)[:16]
    assert clip.fps == 20 and np.array_equal(alpha_of(clip.frames), wanted[..., 3])
    seen = wanted[..., 3] > 0
    assert np.array_equal(clip.frames[seen], wanted[seen])


def test_pixels_that_a_frame_leaves_as_they_are_stay_opaque(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.gif", 31, "-c:v", "gif", rate=20)
    assert path.stat().st_size < 31 * 700  # unchanged pixels are stored as transparent
    clip, _ = read_clip(path, "gif")
    assert clip.frames.shape[3] == 3 and numbers(clip.frames) == list(range(31))


@pytest.mark.parametrize(
    ("disposal", "has_holes"),
    [(0, True), (0, False), (1, True), (1, False), (3, True), (3, False)],
)
def test_parts_of_pictures_are_composed_as_pillow_composes_them(
    disposal: int, has_holes: bool, tmp_path: Path
) -> None:
    parts = [((k, k // 2, 12, 10), disposal, has_holes) for k in range(1, 18)]
    path = tmp_path / "input"
    path.write_bytes(blocks((WHOLE, 1, False), *parts))
    clip, _ = read_clip(path, "gif")
    wanted = composed(path)[:16]
    alpha = clip.frames[..., 3] if clip.has_alpha else np.full(clip.frames.shape[:3], 255)
    assert np.array_equal(alpha, wanted[..., 3])
    seen = wanted[..., 3] > 0
    assert np.array_equal(clip.frames[..., :3][seen], wanted[..., :3][seen])


def test_a_part_that_is_to_be_cleared_becomes_transparent_as_in_browsers(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(blocks((WHOLE, 1, False), *[((4, 4, 8, 8), 2, True)] * 17))
    alpha = alpha_of(read_clip(path, "gif")[0].frames)
    assert (alpha[:2] == 255).all()
    assert (alpha[2:, 4:8, 4:12] == 0).all() and (alpha[2:, 8:12, 4:12] == 255).all()


@pytest.mark.parametrize(("delay", "fps"), [(0, 10), (1, 10), (2, 50), (8, 12.5)])
def test_delays_of_0_and_1_are_a_tenth_of_a_second_as_in_browsers(
    delay: int, fps: float, tmp_path: Path
) -> None:
    path = tmp_path / "input"
    path.write_bytes(blocks(*[(WHOLE, 1, False)] * 20, delay=delay))
    assert probe(path, "gif").fps == fps


def test_frames_have_their_own_times_and_start_skips_some(tmp_path: Path) -> None:
    delays = [40 + 20 * (k % 4) for k in range(40)]
    path = saved(tmp_path / "input", pictures(40), delays, disposal=2)
    found = probe(path, "gif")
    assert found.times == pytest.approx([sum(delays[:k]) / 1000 for k in range(40)])
    later, _ = read_clip(path, "gif", FrameRequest(start=1.0))
    first = later.source.used[0]
    assert sum(delays[:first]) >= 1000 > sum(delays[: first - 1])
    assert np.array_equal(alpha_of(later.frames)[0], composed(path)[first][..., 3])


def resized(gif: bytes, width: int, height: int) -> bytes:
    return gif[:6] + struct.pack("<HH", width, height) + gif[10:]


def test_bombs_and_broken_gifs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "input"
    whole = blocks(*[(WHOLE, 1, False)] * 20)
    path.write_bytes(resized(whole, 5000, 4000))
    with pytest.raises(VideoUnreadable) as large:
        inspect(path)
    assert large.value.facts["width"] == 5000
    path.write_bytes(resized(blocks(*[((0, 0, 1, 1), 1, False)] * 2_000), 65535, 65535))
    with pytest.raises(VideoUnreadable) as larger:
        inspect(path)
    assert larger.value.facts["width"] == 65535
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoTooShort):
        inspect(path)
    path.write_bytes(b"GIF89a" + bytes(40))
    with pytest.raises(VideoUnreadable):
        inspect(path)


def test_a_matroska_file_is_read_as_webm_is(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mkv", 40)
    found = inspect(path)
    assert (found.container, found.source_frames) == ("matroska", 40)
    clip, _ = read_clip(path, "matroska", FrameRequest(start=0.5, max_frames=16))
    assert numbers(clip.frames) == list(range(12, 28))
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "flac", str(tmp_path / "song.mka"))
    with pytest.raises(VideoUnreadable, match="no video"):
        inspect(tmp_path / "song.mka")
