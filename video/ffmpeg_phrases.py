"""The phrases of ffmpeg's stderr that this project reads, one function each.

They hold for the ffmpeg of imageio-ffmpeg 0.6 (7.0.2) to 0.8 (9.0.2):
tests/video/test_ffmpeg_phrases.py makes the installed ffmpeg write each of them. Runs no process.
Used by ffmpeg.py, probe.py and sandbox.py.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class HdrColours(NamedTuple):
    """ffmpeg's names for the colours of HDR frames; `matrix` and `primaries` may be "unknown".

    `transfer` is smpte2084 (PQ) or arib-std-b67 (HLG).
    """

    matrix: str
    primaries: str
    transfer: str


def has_no_video(stderr: str) -> bool:
    """True if the file has streams, but no video. `-map 0:V:0` must be among the arguments.

    A file whose index is cut off has no stream, or one of unknown type: that is another error.
    """
    streams = re.search(r"Stream #0.*: (Audio|Subtitle|Video)", stderr)
    return streams is not None and "matches no streams" in stderr


def oversized_picture(stderr: str) -> tuple[int, int] | None:
    """Width and height of a picture over `-max_pixels`, or over what ffmpeg takes at all."""
    match = re.search(r"Picture size ([1-9]\d{0,8})x([1-9]\d{0,8}) (?:exceeds|is invalid)", stderr)
    return (int(match[1]), int(match[2])) if match else None


def lacks_decoder(stderr: str) -> bool:
    """True if this ffmpeg has no decoder for the stream, or no demuxer for the file."""
    return "no decoder found" in stderr or "Unknown input format" in stderr


def is_protected(stderr: str) -> bool:
    """True if the video's codec is only known by the name of its protection: FairPlay's, CENC's."""
    return re.search(r"Video: [^\n]*\((drmi|encv) / 0x", stderr) is not None


def has_encrypted_packets(rows: str) -> bool:
    """True if framecrc's rows of packets name encryption; ffmpeg before 8 gives only its size."""
    return ", Encryption info," in rows


def reached_cpu_limit(stderr: str) -> bool:
    """True if ffmpeg ended because of SIGXCPU: it catches the signal and exits as usual."""
    return "received signal 24" in stderr


def has_vpx_alpha(stderr: str) -> bool:
    """True if a VP8 or VP9 stream has an alpha channel: metadata of the WebM file."""
    return re.search(r"alpha_mode\s*: *1", stderr, re.IGNORECASE) is not None


def decoded_pixel_format(stderr: str) -> str | None:
    """ffmpeg's name of the decoded pixel format; needs `-c:v wrapped_avframe`."""
    match = re.search(r"Stream #0:0[^\n]*: Video: wrapped_avframe, (\w+)", stderr)
    return match[1] if match else None


def hdr_colours(stderr: str) -> HdrColours | None:
    """The colours of decoded HDR frames, None for SDR; needs `-c:v wrapped_avframe`."""
    colours = r"([\w-]+)/([\w-]+)/(smpte2084|arib-std-b67)"
    match = re.search(
        rf"Stream #0:0[^\n]*: Video: wrapped_avframe, \w+\((?:\w+, )?{colours}", stderr
    )
    return HdrColours(*match.groups()) if match else None
