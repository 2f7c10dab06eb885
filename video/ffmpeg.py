"""ffmpeg's arguments for untrusted media, and the parsing of its output. No numpy.

Every input is an open descriptor, read by the demuxer that was chosen from its first bytes: ffmpeg
gets no file name, and a playlist that pretends to be a video is not followed. A whitelist of
protocols alone is not enough: DASH and ffconcat files still open other files. Used by probe.py and
frames.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import IO, Literal

from errors import VideoUnreadable
from video import ffmpeg_phrases
from video.sandbox import OutOfTime, run_sandboxed
from video.sizes import MAX_PIXELS, too_large

VideoContainer = Literal["mov", "avi", "matroska", "webp_anim", "gif"]
Container = VideoContainer | Literal["zip"]
Demuxer = VideoContainer | Literal["png_pipe", "jpeg_pipe", "webp_pipe"]

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,webp_anim,gif,png_pipe,jpeg_pipe,webp_pipe"
_LISTING_BYTES = 16 << 20
_WALL_S = 60.0  # against a hang; a busy ffmpeg reaches its limit of CPU time first
_NO_TIME = -(1 << 62)
_DISCARDED = 0x4  # AV_PKT_FLAG_DISCARD: decoded, but cut away by an edit list
_TURNS = {
    1: "",
    2: "hflip",
    3: "hflip,vflip",
    4: "vflip",
    5: "transpose=0",
    6: "transpose=1",
    7: "transpose=3",
    8: "transpose=2",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """An open video file, or images as chunks of bytes, one after the other.

    `orientation` is EXIF's, 1 to 8, of all the images.
    """

    stdin: IO[bytes] | Iterable[bytes]
    demuxer: Demuxer
    decoder: str | None = None
    start: float = 0.0
    orientation: int = 1

    def rewound(self) -> IO[bytes] | Iterable[bytes]:
        """`stdin` from its beginning: ffmpeg shares our position in a file."""
        if hasattr(self.stdin, "seek"):
            self.stdin.seek(0)
        return self.stdin

    def turned(self, filters: str) -> tuple[str, ...]:
        """Output arguments: turn images upright, then `filters`."""
        return ("-vf", ",".join(filter(None, (_TURNS[self.orientation], filters))))


@dataclass(frozen=True)
class FrameList:
    """Output of ffmpeg's framecrc writer: one time in seconds per row, and facts about the stream.

    `times` ascend; None if a row has no time. `stderr` is ffmpeg's own text: never shown to users.
    """

    width: int
    height: int
    aspect: float
    codec: str
    rows: int
    times: tuple[float, ...] | None
    stderr: str


def input_arguments(source: Input) -> list[str]:
    """All arguments up to and including `-i`."""
    return [
        *("-hide_banner", "-nostdin", "-nostats", "-loglevel", "info"),
        *("-max_alloc", str(512 << 20), "-filter_threads", "2"),
        *("-protocol_whitelist", "fd", "-format_whitelist", _FORMATS, "-f", source.demuxer),
        *("-max_streams", "32", "-probesize", str(8 << 20), "-analyzeduration", "5000000"),
        # a change of size in the middle must not restart the filters: they count the frames
        *("-max_pixels", str(MAX_PIXELS), "-threads", "2", "-reinit_filter", "0"),
        *(("-c:v", source.decoder) if source.decoder else ()),
        *(("-ss", f"{source.start:.6f}") if source.start > 0 else ()),
        # some versions turn images by their EXIF data, others do not: `Input.turned` does
        *(("-noautorotate",) if source.demuxer.endswith("_pipe") else ()),
        *("-fd", "0", "-i", "fd:"),
    ]


PACKET_LIST_ARGUMENTS = tuple(
    "-map 0:V:0 -c copy -copyinkf -map_metadata -1 -frames:v 100000".split()
)
"""Output arguments: rows are packets, in decoding order; nothing is decoded."""


def frame_list_arguments(most: int) -> tuple[str, ...]:
    """Output arguments: rows are decoded frames in the order they are shown, in microseconds."""
    return (
        *("-map", "0:V:0", "-map_metadata", "-1", "-frames:v", str(most)),
        *("-fps_mode", "passthrough", "-enc_time_base", "1:1000000", "-c:v", "wrapped_avframe"),
    )


def read_frame_list(source: Input, output: Sequence[str]) -> FrameList:
    """Run ffmpeg and read its rows. Raises VideoUnreadable if there is none, or encrypted ones."""
    args = [*input_arguments(source), *output, "-f", "framecrc", "pipe:1"]
    try:
        with run_sandboxed(args, stdin=source.rewound(), wall_s=_WALL_S) as ffmpeg:
            text = ffmpeg.read(_LISTING_BYTES).decode("ascii", "replace")
            _, stderr = ffmpeg.finish()
    except OutOfTime as exc:
        raise too_slow() from exc
    found = parse_frame_list(text, source.demuxer, stderr)
    if ffmpeg_phrases.has_encrypted_packets(text):
        raise _protected()
    if found.rows == 0:
        raise unreadable(stderr)
    return found


def parse_frame_list(text: str, demuxer: Demuxer, stderr: str = "") -> FrameList:
    """The framecrc format: `#key stream: value` lines, then `stream, dts, pts, ...` rows."""
    header: dict[str, str] = {}
    ticks: list[int] = []
    for line in text[: text.rfind("\n") + 1].splitlines():  # a killed ffmpeg leaves half a row
        if line.startswith("#"):
            key, _, value = line[1:].partition(":")
            header[key] = value.strip()
        elif (tick := _tick(line)) is not None:
            ticks.append(tick)
    width, height = _pair(header.get("dimensions 0", ""), "x", (0, 0))
    across, down = _pair(header.get("sar 0", ""), "/", (1, 1))
    numerator, denominator = _pair(header.get("tb 0", ""), "/", (1, 1))
    timed = bool(ticks) and min(ticks) > _NO_TIME and denominator > 0
    ticks.sort()
    times = [tick * numerator / denominator for tick in ticks] if timed else None
    if times and demuxer == "gif":
        times = _as_browsers_show(times)
    return FrameList(
        width=width,
        height=height,
        aspect=across / down if across > 0 and down > 0 else 1.0,
        codec=header.get("codec_id 0", ""),
        rows=len(ticks),
        times=None if times is None else tuple(times),
        stderr=stderr,
    )


def _as_browsers_show(times: Sequence[float]) -> list[float]:
    """A GIF's frame that is to be shown for a hundredth of a second is shown for a tenth.

    ffmpeg does so for a delay of 0 only, whatever its option `min_delay` says (7.0.2, 9.0.2).
    """
    gaps = (later - earlier for earlier, later in pairwise(times))
    return list(accumulate((0.1 if gap < 0.015 else gap for gap in gaps), initial=times[0]))


def _tick(row: str) -> int | None:
    """When the row's frame is shown; None for a cut row and for frames that are never shown."""
    cells = row.split(",")
    if len(cells) < 6:
        return None
    for cell in cells[6:]:
        name, _, value = cell.strip().partition("=")
        if name == "F" and int(value, 16) & _DISCARDED:
            return None
    dts, pts = int(cells[1]), int(cells[2])
    return pts if pts > _NO_TIME else dts


def _pair(text: str, mark: str, default: tuple[int, int]) -> tuple[int, int]:
    match = re.fullmatch(rf"(\d+){mark}(\d+)", text)
    return (int(match[1]), int(match[2])) if match else default


def too_slow() -> VideoUnreadable:
    """The error for a clip that takes longer than our time limit."""
    return VideoUnreadable(
        "Decoding the clip takes too long.",
        hint="Send a smaller clip: fewer pixels, or a lower rate.",
    )


def _protected() -> VideoUnreadable:
    return VideoUnreadable(
        "The clip is encrypted (copy protection, DRM): its frames cannot be decoded without a key.",
        hint="Send a clip without copy protection.",
    )


def unreadable(stderr: str) -> VideoUnreadable:
    """The error for ffmpeg's stderr. It contains nothing of stderr, which may quote the file."""
    log.info("ffmpeg read no frame: %s", stderr[-300:])
    if ffmpeg_phrases.has_no_video(stderr):
        return VideoUnreadable(
            "There is no video in the file.", hint="Send a clip with a video stream."
        )
    if size := ffmpeg_phrases.oversized_picture(stderr):
        return too_large(*size)
    if ffmpeg_phrases.is_protected(stderr):
        return _protected()
    if ffmpeg_phrases.lacks_decoder(stderr):
        return VideoUnreadable("This server cannot decode the clip's codec.")
    return VideoUnreadable("No frame can be decoded: the file is damaged or incomplete.")
