"""Each phrase of video/ffmpeg_phrases.py, written by the installed ffmpeg for a real input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.video.clips import H264, LOSSLESS, ffmpeg, numbered
from video import ffmpeg_phrases
from video.ffmpeg import (
    PACKET_LIST_ARGUMENTS,
    Demuxer,
    Input,
    frame_list_arguments,
    input_arguments,
    parse_frame_list,
    unreadable,
)
from video.sandbox import Limits, ffmpeg_path, launch, run_sandboxed
from video.sizes import MAX_PIXELS

ONE_FRAME = frame_list_arguments(1)


def outputs(path: Path, demuxer: Demuxer, arguments: Sequence[str]) -> tuple[str, str]:
    """ffmpeg's stdout and stderr, with the arguments that video/ffmpeg.py gives it."""
    with open(path, "rb") as file:
        args = [*input_arguments(Input(file, demuxer)), *arguments, "-f", "framecrc", "pipe:1"]
        with run_sandboxed(args, stdin=file, wall_s=60) as process:
            stdout = process.read(1 << 20).decode()
            return stdout, process.finish()[1]


def test_a_file_without_video(tmp_path: Path) -> None:
    song, cover = tmp_path / "song.mp4", tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(song))
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", str(cover))
    with_cover = tmp_path / "with_cover.mp4"
    ffmpeg("-i", str(cover), "-i", str(song), "-map", "1", "-map", "0", "-c", "copy",
           "-disposition:v:0", "attached_pic", str(with_cover))  # fmt: skip
    for path in (song, with_cover):
        _, stderr = outputs(path, "mov", PACKET_LIST_ARGUMENTS)
        assert ffmpeg_phrases.has_no_video(stderr), stderr
        assert unreadable(stderr).message == "There is no video in the file."


def test_a_file_whose_index_is_cut_off_is_damaged(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mp4", 16)  # its index is at the end
    path.write_bytes(path.read_bytes()[:-200])
    _, stderr = outputs(path, "mov", PACKET_LIST_ARGUMENTS)
    assert stderr and not ffmpeg_phrases.has_no_video(stderr)
    assert "damaged or incomplete" in unreadable(stderr).message


def test_a_picture_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=5000x4000", "-frames:v", "1", str(path))
    _, stderr = outputs(path, "png_pipe", ONE_FRAME)
    assert ffmpeg_phrases.oversized_picture(stderr) == (5000, 4000), stderr
    assert unreadable(stderr).facts == {"width": 5000, "height": 4000, "max_pixels": MAX_PIXELS}


@pytest.mark.parametrize(
    ("fourcc", "lacks_decoder"),
    [
        pytest.param(b"zzzz", True, id="no codec"),
        pytest.param(b"evc1", True, id="a codec without decoder"),
        pytest.param(b"CFHD", False, id="another codec"),
    ],
)
def test_a_codec_without_decoder(tmp_path: Path, fourcc: bytes, lacks_decoder: bool) -> None:
    path = numbered(tmp_path / "clip.mov", 16)
    path.write_bytes(path.read_bytes().replace(b"avc1", fourcc))
    _, stderr = outputs(path, "mov", ONE_FRAME)
    assert ffmpeg_phrases.lacks_decoder(stderr) is lacks_decoder, stderr
    assert ("codec" in unreadable(stderr).message) is lacks_decoder


def test_an_ffmpeg_without_the_demuxer(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mp4", 16)
    _, stderr = outputs(path, "no_such_demuxer", ONE_FRAME)  # type: ignore[arg-type]
    assert ffmpeg_phrases.lacks_decoder(stderr), stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits of CPU time are Linux's")
def test_the_limit_of_cpu_time() -> None:
    args = [ffmpeg_path(), "-f", "lavfi", "-i", "testsrc2=s=640x480", "-f", "null", "-"]
    with launch(args, limits=Limits(cpu_s=1), stderr=subprocess.PIPE) as process:
        stderr = process.communicate(timeout=60)[1].decode()
    assert ffmpeg_phrases.reached_cpu_limit(stderr), stderr


@pytest.mark.parametrize(("pixel_format", "has_alpha"), [("yuva420p", True), ("yuv420p", False)])
@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_an_alpha_channel_of_vp8_and_vp9(
    tmp_path: Path, codec: str, pixel_format: str, has_alpha: bool
) -> None:
    output = ("-c:v", codec, "-pix_fmt", pixel_format, "-auto-alt-ref", "0", "-cpu-used", "8")
    path = numbered(tmp_path / "clip.webm", 4, *output)
    _, stderr = outputs(path, "matroska", PACKET_LIST_ARGUMENTS)
    assert ffmpeg_phrases.has_vpx_alpha(stderr) is has_alpha, stderr


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (H264, "yuv420p"),
        (("-c:v", "png", "-pix_fmt", "rgba"), "rgba"),
        (("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"), "yuva444p12le"),
    ],
)
def test_the_decoded_pixel_format(tmp_path: Path, output: tuple[str, ...], name: str) -> None:
    path = numbered(tmp_path / "clip.mov", 4, *output)
    _, stderr = outputs(path, "mov", ONE_FRAME)
    assert ffmpeg_phrases.decoded_pixel_format(stderr) == name, stderr


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("smpte2084:bt2020:bt2020nc", ("bt2020nc", "bt2020", "smpte2084")),
        ("arib-std-b67:smpte432:bt709", ("bt709", "smpte432", "arib-std-b67")),
        ("smpte2084:unknown:unknown", ("unknown", "unknown", "smpte2084")),
        ("bt709:bt709:bt709", None),
        ("bt709:bt2020:bt2020nc", None),
        ("unknown:unknown:unknown", None),
    ],
)
def test_the_colours_of_hdr(tmp_path: Path, tags: str, found: tuple[str, ...] | None) -> None:
    transfer, primaries, matrix = tags.split(":")
    tagged = f"setparams=color_trc={transfer}:color_primaries={primaries}:colorspace={matrix}"
    output = ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le")
    path = numbered(tmp_path / "clip.mov", 4, "-vf", tagged, *output)
    _, stderr = outputs(path, "mov", ONE_FRAME)
    assert ffmpeg_phrases.hdr_colours(stderr) == found, stderr


def test_the_header_of_a_frame_list(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.avi", 5, *LOSSLESS, rate=25, filters="setsar=2/1")
    for arguments, codec in ((PACKET_LIST_ARGUMENTS, "ffv1"), (ONE_FRAME, "wrapped_avframe")):
        found = parse_frame_list(outputs(path, "avi", arguments)[0], "avi")
        assert (found.width, found.height, found.codec) == (128, 64, codec)
        assert found.times is not None and len(found.times) == found.rows
    assert found.aspect == 2.0
