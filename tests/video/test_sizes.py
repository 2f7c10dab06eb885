"""The sizes that a clip is worked on at: told, refused with numbers, and really decoded to."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from errors import VideoUnreadable
from intake.inspect import inspect
from tests.video.clips import LOSSLESS, ffmpeg, numbered, pictures
from video.frames import read_clip
from video.sizes import CLIP_PIXELS, FLOW_MIN_SIDE, MAX_PIXELS, MAX_RATIO, MIN_SIDE, working_sizes

SIDES = (1, 15, 16, 17, 31, 32, 33, 40, 63, 64, 100, 255, 256, 511, 512, 513, 640, 1000, 1023,
         1024, 1025, 1920, 4096, 16_384, 100_000)  # fmt: skip


@pytest.mark.parametrize("aspect", [1.0, 0.01, 0.5, 10 / 11, 1.4587, 4.0, 300.0])
def test_every_size_is_refused_with_numbers_or_suits_every_stage(aspect: float) -> None:
    taken = 0
    for width in SIDES:
        for height in SIDES:
            try:
                sizes = working_sizes(width, height, aspect)
            except VideoUnreadable as refusal:
                assert (refusal.facts["width"], refusal.facts["height"]) == (width, height)
                assert f"{width} x {height}" in refusal.message
                limits = {"max_pixels": MAX_PIXELS, "min_side": MIN_SIDE, "max_ratio": MAX_RATIO}
                assert sum(refusal.facts.get(name) == limits[name] for name in limits) == 1
                continue
            taken += 1
            shown = sizes.decoded.width / sizes.decoded.height
            assert MIN_SIDE <= min(sizes.decoded) and max(sizes.decoded) <= 1024
            for size in (sizes.segmented, sizes.flow):
                assert min(size) >= FLOW_MIN_SIDE and max(size) <= 1024
                assert size.width / size.height == pytest.approx(shown, rel=0.02)
    assert taken > 100


@pytest.mark.parametrize(
    ("width", "height", "aspect", "message"),
    [
        (1024, 32, 1.0, ""),
        (32, 1024, 1.0, ""),
        (1025, 32, 1.0, "1025 x 32 pixels; one side may be at most 32 times the other"),
        (32, 1025, 1.0, "32 x 1025 pixels; one side"),
        (640, 64, 3.0, ""),
        (640, 64, 4.0, "640 x 64 pixels (2560 x 64 as shown); one side"),
        (1025, 32, 0.5, ""),
        (15, 64, 1.0, "15 x 64 pixels; each side needs at least 16"),
        (4097, 4096, 1.0, "4097 x 4096 pixels; at most 16777216"),
    ],
)
def test_the_limits_are_exact(width: int, height: int, aspect: float, message: str) -> None:
    if not message:
        working_sizes(width, height, aspect)
        return
    with pytest.raises(VideoUnreadable) as refusal:
        working_sizes(width, height, aspect)
    assert message in refusal.value.message


@pytest.mark.parametrize(
    ("count", "width", "height", "decoded"),
    [
        (31, 2000, 2000, (1024, 1024)),
        (68, 1024, 1024, (1024, 1024)),
        (121, 1920, 1080, (1024, 576)),
        (121, 1080, 1920, (576, 1024)),
        (121, 1024, 1024, (771, 771)),
        (121, 2048, 64, (1024, 32)),
    ],
)
def test_many_large_frames_are_decoded_smaller(
    count: int, width: int, height: int, decoded: tuple[int, int]
) -> None:
    sizes = working_sizes(width, height).for_frames(count)
    assert sizes.decoded == decoded
    assert count * decoded[0] * decoded[1] <= CLIP_PIXELS
    assert sizes == working_sizes(*decoded)


ROTATED = ("-display_rotation", "90")


@pytest.mark.parametrize(
    ("size", "sar", "before", "shown"),
    [
        pytest.param((640, 64), "1/1", (), (640, 64), id="wide"),
        pytest.param((64, 640), "1/1", (), (64, 640), id="tall"),
        pytest.param((33, 17), "1/1", (), (33, 17), id="odd"),
        pytest.param((16, 16), "1/1", (), (16, 16), id="tiny"),
        pytest.param((640, 64), "1/1", ROTATED, (64, 640), id="turned"),
        pytest.param((160, 64), "2/1", (), (160, 64), id="wide pixels"),
        pytest.param((160, 64), "2/1", ROTATED, (64, 160), id="wide pixels, turned"),
    ],
)
def test_frames_are_decoded_at_the_size_told_at_intake(
    tmp_path: Path, size: tuple[int, int], sar: str, before: tuple[str, ...], shown: tuple[int, int]
) -> None:
    plain = numbered(tmp_path / "plain.mov", 16, *LOSSLESS, size=size, filters=f"setsar={sar}")
    path = tmp_path / "clip.mov"
    ffmpeg(*before, "-i", str(plain), "-c", "copy", str(path))
    facts = inspect(path)
    assert (facts.width, facts.height) == shown
    across, down = (int(part) for part in sar.split("/"))
    aspect = down / across if before else across / down
    clip, _ = read_clip(path, "mov")
    assert clip.frames.shape[2:0:-1] == working_sizes(*shown, aspect).decoded


@pytest.mark.parametrize(("width", "height"), [(1056, 32), (32, 1056)])
@pytest.mark.parametrize("kind", ["video", "zip"])
def test_absurd_sides_are_refused_at_intake(
    tmp_path: Path, kind: str, width: int, height: int
) -> None:
    path = tmp_path / "clip"
    if kind == "video":
        numbered(path, 16, *LOSSLESS, "-f", "avi", size=(width, height))
    else:
        with zipfile.ZipFile(path, "w") as packed:
            for number, content in enumerate(
                pictures(tmp_path / "frames", 16, size=(width, height))
            ):
                packed.writestr(f"{number:02}.png", content)
    with pytest.raises(VideoUnreadable, match=f"{width} x {height} pixels; one side") as refusal:
        inspect(path)
    assert refusal.value.facts == {"width": width, "height": height, "max_ratio": 32}
