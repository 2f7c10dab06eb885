"""Recognising containers: accepted and refused files, and arbitrary bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from errors import UnsupportedMediaType, VideoUnreadable
from intake.container import sniff

MP4 = struct.pack(">I", 32) + b"ftypisom" + b"\0\0\2\0isomiso2avc1mp41"
EBML = b"\x1a\x45\xdf\xa3"
WEBM = (
    EBML + b"\x97\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm"
)
STARTS = [MP4, WEBM, b"RIFF\x10\0\0\0AVI LIST", b"PK\3\4", b"\0\0\0\x08wide", b"GIF89a", EBML]
AFTER_A_START = st.builds(bytes.__add__, st.sampled_from(STARTS), st.binary(max_size=400))


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (MP4, "mov"),
        (MP4.replace(b"isom", b"qt  "), "mov"),
        (MP4.replace(b"ftypisom", b"ftypM4V "), "mov"),
        (b"\0\0\0\x08wide\0\0\0\x10mdat", "mov"),  # old QuickTime without ftyp
        (b"\0\0\1\0moov\0\0\0\x6cmvhd", "mov"),
        (b"RIFF\x10\0\0\0AVI LIST", "avi"),
        (WEBM, "matroska"),
        (WEBM.replace(b"\x84webm", b"\x88matroska"), "matroska"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"RIFF\x10\0\0\0WEBPVP8X\x0a\0\0\0\x12\0\0\0", "webp_anim"),
        (b"PK\3\4\x14\0", "zip"),
        (b"PK\5\6" + bytes(18), "zip"),  # an empty zip: refused later
    ],
)
def test_containers_are_recognised_by_their_first_bytes(head: bytes, container: str) -> None:
    assert sniff(head + bytes(64)) == container


@pytest.mark.parametrize(
    "head",
    [
        WEBM.replace(b"\x84webm", b"\x85webmx"),
        WEBM.replace(b"\x84webm", b"\x83dvr"),
        b"GIF88a",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"RIFF\x10\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0",  # not animated
        MP4.replace(b"isom", b"avif"),
        MP4.replace(b"isom", b"heic"),
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\nfile.ts\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n", b"glTF\2\0\0\0", b"%PDF-1.7", b"\xff" * 200, b"{}", b"\0",
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_the_list_of_formats(head: bytes) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        sniff(head)
    assert caught.value.facts["formats"] == [
        "mp4",
        "mov",
        "avi",
        "webm",
        "mkv",
        "gif",
        "webp",
        "zip",
    ]


def test_an_empty_file_is_reported_as_empty() -> None:
    with pytest.raises(VideoUnreadable, match="empty"):
        sniff(b"")


@given(st.binary(max_size=400) | AFTER_A_START)
@example(b"\x1a\x45\xdf\xa3\x42\x82")
@example(b"\0\0\0\x08ftyp")
def test_sniffing_returns_or_refuses_for_any_bytes(head: bytes) -> None:
    try:
        assert sniff(head) in ("mov", "avi", "matroska", "webp_anim", "gif", "zip")
    except (UnsupportedMediaType, VideoUnreadable):
        pass


@given(st.sampled_from(STARTS[:6]), st.data())
def test_bytes_after_the_header_change_nothing(head: bytes, data: st.DataObject) -> None:
    assert sniff(head + bytes(16)) == sniff(head + data.draw(st.binary(min_size=16, max_size=4096)))
