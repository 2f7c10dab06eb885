"""Pictures as cameras and phones write them, as frames of a zip; and broken or odd ones."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from errors import VideoUnreadable
from tests.video.clips import numbered, numbers
from tests.video.test_frames_zip import zipped
from video.frames import read_clip
from video.pictures import DamagedPicture, first_picture
from video.probe import probe
from video.sampling import FrameRequest

MP4 = struct.pack(">I4s4sI", 24, b"ftyp", b"mp42", 0) + b"mp42isom" + bytes(500)


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """(17, 64, 128, 3), numbered."""
    path = numbered(tmp_path_factory.mktemp("clip") / "clip.mp4", 17)
    return read_clip(path, "mov", FrameRequest(max_frames=16))[0].frames


def encoded(picture: NDArray[np.uint8], suffix: str, *options: int) -> bytes:
    """RGB as the bytes of a file."""
    done, content = cv2.imencode(f".{suffix}", picture[..., ::-1], options)
    assert done
    return content.tobytes()


def exif(orientation: int, order: str = "<", thumbnail: bytes = b"") -> bytes:
    """A TIFF file with one tag before the orientation, and a thumbnail behind them."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2)
    make = struct.pack(f"{order}HHII", 0x010F, 2, 4, 0x41424300)
    turn = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + make + turn + bytes(4) + thumbnail


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def with_exif(content: bytes, suffix: str, tiff: bytes) -> bytes:
    """The same file with EXIF data."""
    if suffix == "jpg":
        return content[:2] + segment(0xE1, b"Exif\0\0" + tiff) + content[2:]
    if suffix == "png":
        check = struct.pack(">I", zlib.crc32(b"eXIf" + tiff))
        return content[:33] + struct.pack(">I", len(tiff)) + b"eXIf" + tiff + check + content[33:]
    picture = first_picture(content)
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (picture.width, picture.height))
    chunks = struct.pack("<4sI", b"VP8X", 10) + b"\x08\0\0\0" + sides + content[12:]
    chunks += struct.pack("<4sI", b"EXIF", len(tiff)) + tiff + bytes(len(tiff) % 2)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WEBP") + chunks


def stored(picture: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """How a camera stores a picture that EXIF's orientation turns upright (EXIF 2.3, 4.6.4)."""
    turned = picture.transpose(1, 0, 2) if orientation >= 5 else picture
    flips_down = orientation in (3, 4, 6, 7)
    flips_across = orientation in (2, 3, 7, 8)
    return np.ascontiguousarray(turned[:: -1 if flips_down else 1, :: -1 if flips_across else 1])


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_exif_orientation_is_turned_upright(
    suffix: str, order: str, frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    files = {}
    for k, picture in enumerate(frames[:16]):
        orientation = 1 + k % 8
        content = encoded(stored(picture, orientation), suffix)
        files[f"{k:02}"] = with_exif(content, suffix, exif(orientation, order))
    path = zipped(tmp_path / "clip.zip", files)
    source = probe(path, "zip").source
    assert (source.width, source.height) == (128, 64)
    clip, _ = read_clip(path, "zip")
    assert clip.frames.shape[1:3] == (64, 128) and numbers(clip.frames) == list(range(16))


def test_sizes_that_differ_after_turning_are_refused_with_both(
    frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    plain = [encoded(picture, "jpg") for picture in frames[:16]]
    files = {f"{k:02}.jpg": content for k, content in enumerate(plain)}
    files["03.jpg"] = with_exif(plain[3], "jpg", exif(6))
    with pytest.raises(VideoUnreadable, match="64 x 128 and 128 x 64"):
        probe(zipped(tmp_path / "clip.zip", files), "zip")


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(
    value: int, frames: NDArray[np.uint8]
) -> None:
    content = with_exif(encoded(frames[0], "jpg"), "jpg", exif(value))
    assert first_picture(content).orientation == 1


def jpegs_of_phones(picture: NDArray[np.uint8]) -> dict[str, bytes]:
    """The same picture in the forms that cameras and phones write."""
    plain = encoded(picture, "jpg")
    small = encoded(picture[::4, ::4], "jpg")
    colours = Image.fromarray(picture).convert("CMYK")
    cmyk = io.BytesIO()
    colours.save(cmyk, "jpeg", quality=95)
    thumbnail = with_exif(plain, "jpg", exif(1, thumbnail=small))
    return {
        "exif thumbnail": thumbnail,
        "second picture (MPF)": thumbnail + plain,
        "gain map after padding": plain + bytes(64) + small,
        "motion photo": plain + MP4,
        "JFIF and EXIF": plain[:20] + segment(0xE1, b"Exif\0\0" + exif(1)) + plain[20:],
        "picture in a comment": plain[:2] + segment(0xFE, small) + plain[2:],
        "picture in two APP2": plain[:2] + 2 * segment(0xE2, b"MPF\0" + small) + plain[2:],
        "fill bytes": plain[:2] + b"\xff\xff\xff" + plain[2:-2] + b"\xff\xff\xff" + plain[-2:],
        "progressive": encoded(picture, "jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1) + small,
        "restart markers": encoded(picture, "jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2) + small,
        "grey": _grey(picture) + small,
        "CMYK (Adobe)": cmyk.getvalue() + small,
        "without its end": plain[:-2],
    }


def _grey(picture: NDArray[np.uint8]) -> bytes:
    done, content = cv2.imencode(".jpg", picture[..., 0])
    assert done
    return content.tobytes()


def test_jpegs_as_phones_write_them_are_one_frame_each(
    frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    for name in jpegs_of_phones(frames[0]):
        files = {f"{k:02}.jpg": jpegs_of_phones(frames[k])[name] for k in range(16)}
        path = zipped(tmp_path / "clip.zip", files)
        assert probe(path, "zip").source.frames == 16, name
        assert numbers(read_clip(path, "zip")[0].frames) == list(range(16)), name


def test_a_given_zip_of_phone_pictures_is_read(test_media: Path) -> None:
    path = test_media / "hostile2" / "exif_thumb_mpf.zip"
    source = probe(path, "zip").source
    assert (source.frames, source.width, source.height) == (18, 96, 128)
    assert len(read_clip(path, "zip")[0]) == 18


@pytest.mark.parametrize("marker", [0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_arithmetic_coding_is_refused_by_name(marker: int, frames: NDArray[np.uint8]) -> None:
    content = encoded(frames[0], "jpg").replace(b"\xff\xc0", bytes((0xFF, marker)))
    with pytest.raises(VideoUnreadable, match="arithmetic"):
        first_picture(content)


def test_of_an_animation_in_a_zip_the_first_frame_is_taken(
    frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    for form, options in (("png", {}), ("webp", {"lossless": True}), ("webp", {"quality": 90})):
        files = {}
        for k in range(16):
            moving = [Image.fromarray(frames[k]), Image.fromarray(frames[15 - k])]
            packed = io.BytesIO()
            moving[0].save(packed, form, save_all=True, append_images=moving[1:], **options)
            files[f"{k:02}.{form}"] = packed.getvalue()
        path = zipped(tmp_path / "clip.zip", files)
        assert probe(path, "zip").source.width == 128
        assert numbers(read_clip(path, "zip")[0].frames) == list(range(16)), form


def test_a_webp_animation_that_begins_with_a_part_is_refused(frames: NDArray[np.uint8]) -> None:
    packed = io.BytesIO()
    one, two = Image.fromarray(frames[0]), Image.fromarray(frames[1])
    one.save(packed, "webp", save_all=True, append_images=[two])
    content = bytearray(packed.getvalue())
    content[content.index(b"ANMF") + 8] = 2  # the left edge, in steps of two pixels
    with pytest.raises(VideoUnreadable, match="only a part"):
        first_picture(bytes(content))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_bytes_behind_a_picture_are_not_a_part_of_it(
    suffix: str, frames: NDArray[np.uint8]
) -> None:
    content = encoded(frames[0], suffix)
    assert first_picture(content + content + MP4).content == content


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_lengths_that_lead_past_the_end_are_damage(suffix: str, frames: NDArray[np.uint8]) -> None:
    content = bytearray(encoded(frames[0], suffix))
    at, form = {"jpg": (4, ">H"), "png": (8, ">I"), "webp": (16, "<I")}[suffix]
    for length in (0xFFFF, 0):
        struct.pack_into(form, content, at, length)
        with pytest.raises(DamagedPicture):
            first_picture(bytes(content))


def test_a_picture_of_nothing_but_segments_is_damage() -> None:
    with pytest.raises(DamagedPicture):
        first_picture(b"\xff\xd8" + segment(0xE1, b"") * 3_000_000)
    with pytest.raises(DamagedPicture):
        first_picture(b"\xff\xd8\xff" + b"\xff" * 40_000_000)
