"""Unusual but valid clips, and files that only look like clips: all are read, or refused with the
right error. Each test goes from the first bytes to the decoded frames.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import VideoUnreadable
from intake.inspect import inspect
from tests.faults.fuzz.videos import try_file
from tests.video.clips import ffmpeg, numbered

COVER = ("-map", "1", "-map", "0", "-c", "copy", "-disposition:v:0", "attached_pic")
# without bitexact each file has another random vector, and a few decode by chance
KEY = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "0f" * 16,
       "-encryption_kid", "f0" * 16, "-fflags", "+bitexact")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of twenty frames, a song, a picture, and two streams of different sizes in one."""
    made = tmp_path_factory.mktemp("odd")
    numbered(made / "clip.mp4", 20)
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(made / "song.mp4"))
    numbered(made / "cover.png", 1, "-c:v", "png")
    both = b""
    for size in ((64, 64), (128, 96)):
        stream = numbered(made / "stream.h264", 20, "-c:v", "libx264", "-f", "h264", size=size)
        both += stream.read_bytes()
    (made / "both.h264").write_bytes(both)
    return made


@pytest.mark.parametrize(
    ("inputs", "output", "ending"),
    [
        pytest.param(("song.mp4", "cover.png"), COVER, "video_unreadable", id="song with cover"),
        pytest.param(("clip.mp4", "cover.png"), COVER, "read", id="cover before the clip"),
        pytest.param(("clip.mp4", "both.h264"), ("-map", "0", "-map", "1:v", "-c", "copy"), "read",
                     id="two videos"),
        pytest.param(("both.h264",), ("-c", "copy"), "read", id="size changes midway"),
        pytest.param(("clip.mp4",), ("-c", "copy", "-bsf:v", "setts=ts=TS+1000000000"), "read",
                     id="begins after hours"),
        pytest.param(("clip.mp4",), ("-c", "copy", "-bsf:v", "setts=ts=N*100000000"), "read",
                     id="a frame in two hours"),
        pytest.param(("clip.mp4",), ("-vf", "setsar=1/255"), "read", id="very narrow pixels"),
        pytest.param(("clip.mp4",), ("-pix_fmt", "yuv444p10le"), "read", id="ten bits"),
        pytest.param(("clip.mp4",), ("-f", "h264"), "unsupported_media_type", id="no container"),
        pytest.param(("clip.mp4",), ("-f", "mpegts"), "unsupported_media_type", id="mpeg-ts"),
        pytest.param(("clip.mp4",), ("-f", "matroska"), "read", id="matroska"),
        pytest.param(("clip.mp4",), ("-f", "gif"), "read", id="gif"),
        pytest.param(("clip.mp4",), ("-f", "apng"), "unsupported_media_type", id="apng"),
    ],
)  # fmt: skip
def test_odd_files_are_read_or_refused_with_the_right_code(
    folder: Path, tmp_path: Path, inputs: tuple[str, ...], output: tuple[str, ...], ending: str
) -> None:
    path = tmp_path / "odd.mp4"
    sources = [word for name in inputs for word in ("-i", str(folder / name))]
    ffmpeg(*sources, *output, str(path))
    assert try_file(path) == ending


@pytest.mark.parametrize("name_of_fairplay", [False, True])
def test_an_encrypted_clip_is_not_called_damaged(
    folder: Path, tmp_path: Path, name_of_fairplay: bool
) -> None:
    path = tmp_path / "protected.mp4"
    ffmpeg("-i", str(folder / "clip.mp4"), "-c", "copy", *(() if name_of_fairplay else KEY),
           str(path))  # fmt: skip
    if name_of_fairplay:
        path.write_bytes(path.read_bytes().replace(b"avc1\0", b"drmi\0"))
    with pytest.raises(VideoUnreadable, match="encrypted"):
        inspect(path)


@pytest.mark.parametrize(("degrees", "size"), [(90, (64, 128)), (180, (128, 64)), (270, (64, 128))])
def test_a_clip_has_the_orientation_of_its_camera(
    folder: Path, tmp_path: Path, degrees: int, size: tuple[int, int]
) -> None:
    path = tmp_path / "turned.mp4"
    turn = ("-display_rotation", str(degrees))
    ffmpeg(*turn, "-i", str(folder / "clip.mp4"), "-c", "copy", str(path))
    found = inspect(path)
    assert (found.width, found.height) == size and try_file(path) == "read"
