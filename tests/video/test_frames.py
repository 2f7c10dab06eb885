"""Decoding gives exactly the planned frames, with the right colours and shape."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from errors import VideoTooShort, VideoUnreadable
from tests.video.clips import H264, LOSSLESS, OPEN_GOP, ffmpeg, numbered, numbers
from video.ffmpeg import Container
from video.frames import read_clip
from video.probe import probe
from video.sampling import FrameRequest
from video.sandbox import DECODE

KINDS: dict[str, tuple[Container, str, tuple[str, ...]]] = {
    "h264": ("mov", "mp4", H264),
    "h264 with B-frames and open groups": ("mov", "mp4", OPEN_GOP),
    "h264 fragmented": ("mov", "mp4", (*H264, "-movflags", "frag_keyframe+empty_moov")),
    "h264 10 bit": ("mov", "mov", ("-c:v", "libx264", "-pix_fmt", "yuv420p10le")),
    "h264 in avi": ("avi", "avi", (*H264, "-bf", "2")),
    "hevc": ("mov", "mp4", ("-c:v", "libx265", "-x265-params", "log-level=none:bframes=3")),
    "av1": ("mov", "mp4", ("-c:v", "libsvtav1", "-preset", "10", "-svtav1-params", "lookahead=0")),
    "prores": ("mov", "mov", ("-c:v", "prores_ks",)),
    "mjpeg": ("avi", "avi", ("-c:v", "mjpeg", "-q:v", "2")),
    "mpeg4 with B-frames": ("avi", "avi", ("-c:v", "mpeg4", "-bf", "2", "-q:v", "2")),
    "ffv1": ("avi", "avi", LOSSLESS),
    "vp8 with hidden frames": (
        "matroska", "webm",
        ("-c:v", "libvpx", "-b:v", "1M", "-auto-alt-ref", "1", "-lag-in-frames", "16"),
    ),
    "vp9 with hidden frames": (
        "matroska", "webm",
        ("-c:v", "libvpx-vp9", "-b:v", "1M", "-auto-alt-ref", "1", "-lag-in-frames", "16",
         "-cpu-used", "8"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_are_those_of_the_plan(kind: str, tmp_path: Path) -> None:
    container, suffix, codec = KINDS[kind]
    path = numbered(tmp_path / f"clip.{suffix}", 70, *codec)
    clip, _ = read_clip(path, container)
    assert numbers(clip.frames) == list(range(0, 61, 2)) == list(clip.source.used)
    assert clip.fps == pytest.approx(12, abs=0.01)
    assert clip.source.frames == 70 and clip.source.fps == pytest.approx(24, abs=0.02)


SEEKING = [kind for kind in KINDS if "B-frames" in kind or "hidden" in kind or "avi" in kind]


@pytest.mark.parametrize("kind", SEEKING)
@pytest.mark.parametrize(("start", "first"), [(0.01, 1), (1.0, 24), (2.51, 61)])
def test_start_skips_frames_before_that_time(
    kind: str, start: float, first: int, tmp_path: Path
) -> None:
    container, suffix, codec = KINDS[kind]
    path = numbered(tmp_path / f"clip.{suffix}", 92, *codec)
    clip, _ = read_clip(path, container, FrameRequest(start=start, max_frames=16))
    stride = (92 - first - 1) // 15 if first > 40 else 3
    assert numbers(clip.frames) == list(clip.source.used) == list(range(first, 92, stride))[:16]
    assert clip.source.frames == 92


@pytest.mark.parametrize("start", [0.0, 2.5])
def test_a_long_clip_names_the_seconds_that_are_used(start: float, tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mp4", 250)
    warnings = probe(path, "mov", FrameRequest(start=start)).warnings
    assert [warning.code for warning in warnings] == ["window_only"]
    told = f"Only {start:.1f} s to {start + 90 / 24:.1f} s of the clip are used; it ends at 10.4 s."
    assert warnings[0].message.startswith(told)
    late = probe(path, "mov", FrameRequest(start=5.0))
    assert [warning.code for warning in late.warnings] == ["unused_tail"]


def test_fps_and_max_frames_are_honoured(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mp4", 96)
    clip, _ = read_clip(path, "mov", FrameRequest(fps=4, max_frames=20))
    assert numbers(clip.frames) == list(range(0, 96, 6)) and clip.fps == 4


def test_a_variable_rate_clip_is_sampled_by_its_times(tmp_path: Path) -> None:
    # 24 a second for a second, then 8 a second
    slower = "setpts='if(lt(N,24),N/24,1+(N-24)/8)/TB'"
    path = numbered(
        tmp_path / "clip.mp4", 48, *H264, "-fps_mode", "passthrough", "-video_track_timescale",
        "24000", filters=f"settb=1/24000,{slower}",
    )  # fmt: skip
    clip, _ = read_clip(path, "mov")
    found = numbers(clip.frames)
    assert found == list(clip.source.used)
    times = [n / 24 if n < 24 else 1 + (n - 24) / 8 for n in found]
    steps = np.diff(times)
    assert clip.fps == pytest.approx(8) and abs(steps - 0.125).max() <= 1 / 24


def test_a_change_of_size_in_the_middle_keeps_the_count(tmp_path: Path) -> None:
    codec = ("-c:v", "libvpx", "-b:v", "1M", "-auto-alt-ref", "0")
    small = numbered(tmp_path / "a.webm", 20, *codec)
    rest = "trim=start_frame=20,setpts=PTS-STARTPTS"
    large = numbered(tmp_path / "b.webm", 60, *codec, size=(256, 128), filters=rest)
    listed = tmp_path / "list.txt"
    listed.write_text(f"file '{small}'\nfile '{large}'\n")
    path = tmp_path / "joined.webm"
    ffmpeg("-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy", str(path))
    clip, _ = read_clip(path, "matroska")
    assert clip.frames.shape == (31, 64, 128, 3)
    assert numbers(clip.frames) == list(clip.source.used) == list(range(0, 61, 2))


def test_damage_in_the_middle_changes_the_plan_to_what_decodes(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.avi", 120, "-c:v", "mjpeg", "-q:v", "2")
    content = bytearray(path.read_bytes())
    begin = len(content) // 2
    content[begin : begin + 20000] = bytes(20000)
    path.write_bytes(content)
    clip, _ = read_clip(path, "avi")
    assert len(clip) in (16, 31)
    found = numbers(clip.frames)
    assert found == sorted(set(found))


def test_a_rotated_clip_is_turned_upright(tmp_path: Path) -> None:
    plain = numbered(tmp_path / "plain.mp4", 16)
    path = tmp_path / "rotated.mp4"
    ffmpeg("-display_rotation", "90", "-i", str(plain), "-c", "copy", str(path))
    clip, _ = read_clip(path, "mov")
    assert clip.frames.shape == (16, 128, 64, 3)
    assert (clip.source.width, clip.source.height) == (64, 128)
    assert numbers(np.rot90(clip.frames, k=-1, axes=(1, 2))) == list(range(16))


def test_wide_pixels_become_square(tmp_path: Path) -> None:
    path = numbered(tmp_path / "dv.mp4", 16, filters="setsar=2/1")
    clip, _ = read_clip(path, "mov")
    assert clip.frames.shape[1:3] == (64, 256)
    assert (clip.source.width, clip.source.height) == (128, 64)


def test_large_frames_are_shrunk_and_small_ones_keep_their_size(tmp_path: Path) -> None:
    large = numbered(tmp_path / "large.mp4", 16, size=(1600, 900))
    clip, _ = read_clip(large, "mov")
    assert clip.frames.shape == (16, 576, 1024, 3) and numbers(clip.frames) == list(range(16))
    assert (clip.source.width, clip.source.height) == (1600, 900)
    odd = numbered(tmp_path / "odd.avi", 16, *LOSSLESS, size=(129, 63))
    assert read_clip(odd, "avi")[0].frames.shape == (16, 63, 129, 3)


ALPHA: dict[str, tuple[Container, str, tuple[str, ...]]] = {
    "qtrle": ("mov", "mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
    "png": ("mov", "mov", ("-c:v", "png", "-pix_fmt", "rgba")),
    "prores 4444": (
        "mov", "mov", ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"),
    ),
    "vp9": ("matroska", "webm", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-cpu-used", "8")),
    "vp8": ("matroska", "webm", ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0")),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALPHA)
def test_an_alpha_channel_is_kept(kind: str, tmp_path: Path) -> None:
    container, suffix, codec = ALPHA[kind]
    left_half = "format=yuva444p,geq=lum='lum(X,Y)':cb=128:cr=128:a='255*lt(X,W/2)'"
    path = numbered(tmp_path / f"clip.{suffix}", 18, *codec, filters=left_half)
    clip, _ = read_clip(path, container)
    assert clip.frames.shape[3] == 4
    alpha = clip.frames[..., 3]
    assert alpha[:, :, :60].min() >= 250 and alpha[:, :, 68:].max() <= 5


def test_an_opaque_alpha_channel_is_dropped(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mov", 16, "-c:v", "qtrle", "-pix_fmt", "argb")
    clip, _ = read_clip(path, "mov")
    assert clip.frames.shape[3] == 3 and clip.frames.flags.c_contiguous


@pytest.mark.parametrize("output", [
    ("-pix_fmt", "yuv420p", "-color_range", "tv"),
    ("-pix_fmt", "yuvj420p", "-color_range", "pc"),
    ("-pix_fmt", "yuv420p", "-colorspace", "bt709"),
    ("-pix_fmt", "yuv420p10le"),
    ("-pix_fmt", "yuv444p"),
])  # fmt: skip
def test_colours_are_kept_in_every_range_matrix_and_depth(
    output: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "red.mp4"
    matrix = "bt709" if "bt709" in output else "bt601"
    ranged = "pc" if "pc" in output else "tv"
    source = "color=0xC83C1E:s=64x64:r=24,format=rgb24,"
    source += f"scale=out_color_matrix={matrix}:out_range={ranged}"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        source,
        "-frames:v",
        "16",
        "-c:v",
        "libx264",
        "-crf",
        "1",
        *output,
        str(path),
    )
    clip, _ = read_clip(path, "mov")
    assert np.abs(clip.frames.astype(int) - (0xC8, 0x3C, 0x1E)).max() <= 4


def test_a_cover_picture_is_not_used_as_the_video(tmp_path: Path) -> None:
    plain = numbered(tmp_path / "plain.mp4", 16)
    cover = tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", str(cover))
    path = tmp_path / "clip.mp4"
    ffmpeg("-i", str(cover), "-i", str(plain), "-map", "0", "-map", "1", "-c", "copy",
           "-disposition:v:0", "attached_pic", str(path))  # fmt: skip
    clip, _ = read_clip(path, "mov")
    assert numbers(clip.frames) == list(range(16))


@pytest.mark.usefixtures("collected_garbage")
def test_progress_is_reported_per_frame_and_may_raise(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mp4", 31)
    reported: list[tuple[int, int]] = []
    read_clip(path, "mov", on_progress=lambda step, steps: reported.append((step, steps)))
    assert reported == [(step, 31) for step in range(1, 32)]

    def stop(step: int, steps: int) -> None:
        raise InterruptedError

    before = len(os.listdir("/dev/fd"))
    with pytest.raises(InterruptedError):
        read_clip(path, "mov", on_progress=stop)
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_121_frames_are_decoded_and_may_take_longer(tmp_path: Path) -> None:
    path = tmp_path / "brighter.avi"  # each frame by one grey value
    source = "nullsrc=s=64x48:r=24,format=yuv444p,geq=lum='40+N':cb=128:cr=128"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", "130", *LOSSLESS, str(path))
    seen: set[str] = set()

    def look(step: int, _steps: int) -> None:  # ffmpeg waits until its frames are read
        for children in Path("/proc/self/task").glob("*/children") if step == 1 else ():
            for pid in children.read_text().split():
                process = Path("/proc", pid)
                if process.joinpath("comm").read_text().startswith("ffmpeg"):
                    limits = process.joinpath("limits").read_text()
                    seen.update(re.findall(r"Max cpu time +(\d+)", limits))

    for count in (31, 100, 101, 121):
        clip, _ = read_clip(path, "avi", FrameRequest(max_frames=count), on_progress=look)
        found = np.round(clip.frames[:, 0, 0, 0].astype(int) * 219 / 255) + 16 - 40  # limited range
        assert len(clip) == count and tuple(found) == clip.source.used
    shares = (1, 100 / 31, 101 / 31, 121 / 31)
    assert seen == {str(round(DECODE.cpu_s * share)) for share in shares}


def test_plans_agree_whether_packets_or_frames_are_counted(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mp4", 200, rate=30)
    packets, frames = probe(path, "mov"), probe(path, "mov", decode_all=True)
    assert (packets.source, packets.fps) == (frames.source, frames.fps)


def test_facts_of_a_clip_that_is_too_short_large_or_small(tmp_path: Path) -> None:
    with pytest.raises(VideoTooShort) as short:
        probe(numbered(tmp_path / "15.mp4", 15), "mov")
    assert short.value.facts == {"frames": 15, "min_frames": 16}
    with pytest.raises(VideoTooShort) as late:
        probe(numbered(tmp_path / "40.mp4", 40), "mov", FrameRequest(start=9))
    assert late.value.facts["frames"] == 0 and "start=9" in late.value.message
    wall = tmp_path / "wall.mov"
    ffmpeg(
        "-f", "lavfi", "-i", "color=red:s=5000x4000", "-frames:v", "2", "-c:v", "mjpeg", str(wall)
    )
    with pytest.raises(VideoUnreadable) as large:
        probe(wall, "mov")
    assert large.value.facts == {"width": 5000, "height": 4000, "max_pixels": 16_777_216}
    with pytest.raises(VideoUnreadable) as small:
        probe(numbered(tmp_path / "8.avi", 16, *LOSSLESS, size=(32, 8)), "avi")
    assert small.value.facts == {"width": 32, "height": 8, "min_side": 16}
