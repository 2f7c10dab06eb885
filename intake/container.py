"""Recognises the container of a file by its first bytes; names and declared types are ignored."""

from __future__ import annotations

from errors import UnsupportedMediaType, VideoUnreadable
from video.ffmpeg import Container

HEAD_BYTES = 4096
"""How many bytes of a file `sniff` needs; a shorter file is fine."""

FORMATS = ("mp4", "mov", "avi", "webm", "mkv", "gif", "webp", "zip")

_EBML = b"\x1a\x45\xdf\xa3"
_DOCTYPE = b"\x42\x82"
_QUICKTIME_ATOMS = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_NOT_VIDEO_BRANDS = set(b"avif avis heic heix hevc heim heis mif1 msf1".split())


def sniff(head: bytes) -> Container:
    """Raises UnsupportedMediaType for any other kind of file, VideoUnreadable for an empty one.

    The rest of the file is not checked: ffmpeg reads it with exactly this demuxer.
    """
    if not head:
        raise VideoUnreadable("The file is empty.", hint="Send the clip once more.")
    if head[4:8] == b"ftyp" and head[8:12] not in _NOT_VIDEO_BRANDS and len(head) >= 16:
        return "mov"
    if head[4:8] in _QUICKTIME_ATOMS and len(head) >= 8:
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and head[20] & 2:
        return "webp_anim"
    if head[:4] == _EBML and _doc_type(head) in (b"webm", b"matroska"):
        return "matroska"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    raise UnsupportedMediaType(
        "The file is not an mp4, mov, avi, webm, mkv, GIF, animated WebP or zip file.",
        formats=list(FORMATS),
    )


def _doc_type(head: bytes) -> bytes:
    """The DocType element of an EBML header (RFC 8794); empty if it is not in `head`."""
    at = head.find(_DOCTYPE, 4, 256)
    if at < 0 or at + 3 > len(head):
        return b""
    length = head[at + 2] & 0x7F
    return head[at + 3 : at + 3 + length].rstrip(b"\0")
