"""Zips of frames: order, alpha, sizes, and damaged or hostile zips."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import UserFault, VideoTooShort, VideoUnreadable
from tests.video.clips import ffmpeg, numbers, pictures
from video.frames import read_clip
from video.frames_zip import FramesZip
from video.pictures import DamagedPicture, first_picture
from video.probe import probe
from video.sampling import FrameRequest
from video.zip_reader import MAX_ENTRIES


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def png(width: int, height: int, *, pixels: bytes | None = None) -> bytes:
    """A grey PNG; without `pixels` its header promises what its data does not hold."""
    rows = b"" if pixels is None else zlib.compress(pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", rows),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(scope="session")
def frames_png(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return pictures(tmp_path_factory.mktemp("png"), 40)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_frames_come_in_natural_order(suffix: str, tmp_path: Path) -> None:
    made = pictures(tmp_path / suffix, 20, suffix)
    files = {f"run/frame_{index}.{suffix}": made[index] for index in reversed(range(20))}
    path = zipped(tmp_path / "clip.zip", files)
    clip, warnings = read_clip(path, "zip", FrameRequest(step=15))
    assert numbers(clip.frames) == list(clip.source.used) == list(range(16))
    assert clip.frames.shape == (16, 64, 128, 3) and clip.fps == 12
    assert clip.source.fps is None and clip.source.frames == 20
    assert [warning.code for warning in warnings] == ["unused_tail"]
    assert len(read_clip(path, "zip")[0]) == 20


def test_kinds_may_be_mixed_and_suffixes_may_be_wrong(
    frames_png: list[bytes], tmp_path: Path
) -> None:
    jpg, webp = pictures(tmp_path / "j", 16, "jpg"), pictures(tmp_path / "w", 16, "webp")
    made = [(frames_png, jpg, webp)[index // 2 % 3][index] for index in range(16)]
    path = zipped(tmp_path / "clip.zip", {f"{index:02}.gif": made[index] for index in range(16)})
    assert numbers(read_clip(path, "zip")[0].frames) == list(range(16))
    assert probe(path, "zip").source.width == 128


def test_more_than_31_frames_are_sampled_and_start_counts_in_playing_time(
    frames_png: list[bytes], tmp_path: Path
) -> None:
    many = {f"{index}.png": frames_png[index % 40] for index in range(70)}
    path = zipped(tmp_path / "clip.zip", many)
    assert probe(path, "zip").source.used == tuple(range(0, 61, 2))
    later = probe(path, "zip", FrameRequest(start=1.0, fps=24))
    assert (later.source.used[0], later.fps, later.source.frames) == (24, 24, 70)
    assert len(probe(path, "zip", FrameRequest(max_frames=16)).source.used) == 16


def test_every_picture_that_is_used_is_checked(frames_png: list[bytes], tmp_path: Path) -> None:
    many = {f"{index}.png": frames_png[index % 40] for index in range(122)}
    all_but_one = FrameRequest(max_frames=121)
    assert len(probe(zipped(tmp_path / "clip.zip", many), "zip", all_but_one).picks) == 121
    for damaged in (60, 120):
        path = zipped(tmp_path / "damaged.zip", {**many, f"{damaged}.png": png(128, 64)})
        with pytest.raises(VideoUnreadable, match="121 pictures"):
            probe(path, "zip", all_but_one)


def test_the_alpha_channel_is_kept(tmp_path: Path) -> None:
    ffmpeg(
        "-f", "lavfi", "-i", "color=red:s=32x32,format=rgba,geq=r=200:g=100:b=50:a='255*lt(X,16)'",
        "-frames:v", "16", str(tmp_path / "%d.png"),
    )  # fmt: skip
    files = {f"{k}.png": (tmp_path / f"{k}.png").read_bytes() for k in range(1, 17)}
    clip, _ = read_clip(zipped(tmp_path / "clip.zip", files), "zip")
    assert clip.frames.shape[3] == 4 and np.unique(clip.frames[..., 3]).tolist() == [0, 255]
    assert (clip.frames[:, :, :16, :3] == (200, 100, 50)).all()


def test_files_of_file_managers_are_not_frames(frames_png: list[bytes], tmp_path: Path) -> None:
    files = {f"{index}.png": frames_png[index] for index in range(16)}
    litter = {"__MACOSX/._0.png": b"x", ".DS_Store": b"x", "Thumbs.db": b"x", "folder/": b"",
              "clip\\.hidden.png": b"x"}  # fmt: skip
    found = probe(zipped(tmp_path / "clip.zip", {**litter, **files}), "zip")
    assert found.source.frames == 16


def test_names_with_parent_folders_are_only_names(frames_png: list[bytes], tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    files = {f"../../{index}.png": frames_png[index] for index in range(14)}
    files |= {"..\\..\\14.png": frames_png[14], "/etc/15.png": frames_png[15]}
    path = zipped(folder / "clip.zip", files)
    assert probe(path, "zip").source.frames == 16
    assert sorted(item.name for item in tmp_path.rglob("*")) == ["clip.zip", "deep", "down"]


def test_names_that_would_be_odd_files_are_only_names(
    frames_png: list[bytes], tmp_path: Path
) -> None:
    names = ["CON", "aux.png", "LPT1.png", "C:\\x.png", "a.png", "A.png", "a .png", "%s%n.png",
             "-r.png", "\N{RIGHT-TO-LEFT OVERRIDE}gnp.png", "\u00e4.png", "a\u0308.png", "~.png",
             "$(id).png", "9" * 5000, "x" * 60_000]  # fmt: skip
    files = {name: frames_png[index] for index, name in enumerate(names)}
    path = zipped(tmp_path / "clip.zip", files)
    assert probe(path, "zip").source.frames == 16
    assert len(read_clip(path, "zip")[0]) == 16
    assert [item.name for item in tmp_path.iterdir()] == ["clip.zip"]


def test_a_second_picture_behind_the_first_is_not_a_frame(tmp_path: Path) -> None:
    made = pictures(tmp_path / "j", 17, "jpg")
    files = {f"{index:02}.jpg": made[index] + made[16] for index in range(16)}
    clip, _ = read_clip(zipped(tmp_path / "clip.zip", files), "zip")
    assert numbers(clip.frames) == list(range(16))


def test_15_frames_are_too_few(frames_png: list[bytes], tmp_path: Path) -> None:
    files = {f"{index}.png": frames_png[index] for index in range(15)}
    with pytest.raises(VideoTooShort) as caught:
        probe(zipped(tmp_path / "clip.zip", files), "zip")
    assert caught.value.facts == {"frames": 15, "min_frames": 16}


def refused(path: Path) -> VideoUnreadable:
    """Both entries refuse it, in words that hold no path."""
    with pytest.raises(VideoUnreadable) as asked:
        probe(path, "zip")
    with pytest.raises(VideoUnreadable):
        read_clip(path, "zip")
    assert str(path.parent) not in asked.value.message
    return asked.value


@pytest.mark.parametrize("litter", [{}, {"folder/": b"", ".DS_Store": b"x"}])
def test_a_zip_without_files_says_so(litter: dict[str, bytes], tmp_path: Path) -> None:
    assert "no files" in refused(zipped(tmp_path / "clip.zip", litter)).message


def test_frames_of_two_sizes_are_refused_with_both(frames_png: list[bytes], tmp_path: Path) -> None:
    files = {f"{index}.png": frames_png[index] for index in range(16)}
    files["7.png"] = png(50, 40, pixels=bytes(41 * 51))
    error = refused(zipped(tmp_path / "clip.zip", files))
    assert "50 x 40" in error.message and "128 x 64" in error.message


def test_broken_pictures_are_refused_with_their_count(
    frames_png: list[bytes], tmp_path: Path
) -> None:
    files = {f"{index:02}.png": frames_png[index] for index in range(16)}
    files["09.png"] = png(128, 64)
    error = refused(zipped(tmp_path / "clip.zip", files))
    assert error.facts == {"frames": 15, "pictures": 16}


def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    files = {f"{index}.png": png(60000, 60000) for index in range(16)}
    assert refused(zipped(tmp_path / "clip.zip", files)).facts["width"] == 60000


def test_zip_bombs_are_refused_by_their_directory(frames_png: list[bytes], tmp_path: Path) -> None:
    files = {f"{index}.png": frames_png[0] + bytes(3 << 20) for index in range(16)}
    refused(zipped(tmp_path / "ratio.zip", files, zipfile.ZIP_DEFLATED))
    many = {f"{index}.png": b"" for index in range(MAX_ENTRIES + 1)}
    assert refused(zipped(tmp_path / "many.zip", many)).facts["max_entries"] == MAX_ENTRIES
    large = zipped(tmp_path / "large.zip", {f"{k}.png": frames_png[k] for k in range(16)})
    content = bytearray(large.read_bytes())
    at = content.rindex(b"PK\1\2")
    content[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    large.write_bytes(content)
    assert refused(large).facts["max_unpacked_bytes"]


def test_encrypted_and_oddly_packed_zips_are_refused(
    frames_png: list[bytes], tmp_path: Path
) -> None:
    files = {f"{index}.png": frames_png[index] for index in range(16)}
    path = zipped(tmp_path / "clip.zip", files)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2")
    content[at + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refused(path).message
    refused(zipped(tmp_path / "bz2.zip", files, zipfile.ZIP_BZIP2))
    refused(zipped(tmp_path / "text.zip", {"readme.txt": b"hello"}))
    refused(zipped(tmp_path / "nothing.zip", {}))


@pytest.mark.usefixtures("collected_garbage")
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_anywhere_is_a_user_fault_or_harmless(
    data: st.DataObject, frames_png: list[bytes], tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(16):
            archive.writestr(f"{index}.png", frames_png[index])
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "clip.zip"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    before = len(os.listdir("/dev/fd"))
    try:
        with FramesZip(path) as frames:
            list(frames.contents(frames.stills(frames.pictures)))
    except UserFault:
        pass
    assert len(os.listdir("/dev/fd")) == before


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBPVP8 "]),
)
def test_any_bytes_are_a_picture_with_a_size_or_damaged(noise: bytes, head: bytes) -> None:
    try:
        found = first_picture(head + noise)
    except (DamagedPicture, VideoUnreadable):
        return
    assert min(found.width, found.height) > 0
