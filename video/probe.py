"""What an uploaded clip is, and which of its frames a job takes. Decodes only the first few.

`probe` serves every container, so that callers never branch. It lists the packets (cheap: nothing
is decoded), decodes the first 31 frames as a proof, and decodes further only where the two differ,
in streams with hidden frames, say. video/frames.py decodes by the plan made here. No numpy.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from errors import VideoTooShort, VideoUnreadable
from presets import MAX_FRAMES, MIN_FRAMES
from video.ffmpeg import (
    LIST_PACKETS,
    MAX_PIXELS,
    MIN_SIDE,
    Container,
    Input,
    Listing,
    list_frames,
    listing,
    too_large,
)
from video.frames_zip import FramesZip, Picture
from video.sampling import FALLBACK_FPS, ClipWarning, horizon, sample, source_rate

_WALL_S = 60.0  # against a hang; for whatever computes, the limit of CPU time comes first
_MOST_WITHOUT_TIMES = 1000
_WITH_ALPHA = re.compile(r"yuva|ya\d|gbrap|rgba|bgra|argb|abgr|ayuv|vuya|uyva|pal8")
_VPX = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class Probe:
    """Facts on a clip, and the plan: which frames, how fast, and how to get at them.

    `width` and `height` are those of upright frames as decoded; `aspect` is the width of a pixel
    over its height. `used` are 0-based indices into all `frames` of the source, `picks` the same
    counted from the first frame decoded after seeking to `seek`; `times` (s) belong to the latter.
    """

    width: int
    height: int
    aspect: float
    frames: int
    source_fps: float | None
    used: tuple[int, ...]
    fps: float
    warnings: tuple[ClipWarning, ...]
    picks: tuple[int, ...]
    seek: float
    times: tuple[float, ...] | None
    may_have_alpha: bool
    decoder: str | None = None


def probe(
    path: Path,
    container: Container,
    start: float = 0.0,
    fps: float | None = None,
    max_frames: int = MAX_FRAMES,
    *,
    proof: bool = True,
    whole: bool = False,
) -> Probe:
    """Raises VideoUnreadable, VideoTooShort.

    `proof` decodes the first 31 frames, or all pictures taken from a zip; without it the first one
    has to do. `whole` decodes as far as the plan can depend on, and trusts no packet.
    """
    if container == "zip":
        return _probe_zip(path, start, fps, max_frames, proof)
    with open(path, "rb") as file:
        packets = listing(Input(file, container), LIST_PACKETS, wall_s=_WALL_S)
        _check_packets(packets, start)
        # seeking in an AVI with B-frames lands anywhere: those before `start` are decoded as well
        seek = start if container != "avi" else 0.0
        at_start = bisect_left(packets.times or (), start - 1e-5)
        early = 0 if seek == start else at_start
        enough = _enough(packets, at_start, fps) if whole else MAX_FRAMES if proof else 1
        source = Input(file, container, _decoder(packets), seek)
        decoded = listing(source, list_frames(early + enough), wall_s=_WALL_S)
    _check_sides(decoded.width, decoded.height)
    look_ahead = _seen if whole else _foretold
    ahead = look_ahead(packets, decoded, early + enough, at_start - early)
    if ahead is None:
        return probe(path, container, start, fps, max_frames, whole=True)
    wanted = None if ahead.times is None else ahead.times[early:]
    found = sample(wanted, max(ahead.count - early, 0), fps=fps, max_frames=max_frames)
    return Probe(
        width=decoded.width,
        height=decoded.height,
        aspect=decoded.aspect,
        frames=ahead.first + ahead.count,
        source_fps=None if ahead.times is None else source_rate(ahead.times),
        used=tuple(ahead.first + early + position for position in found.used),
        fps=found.fps,
        warnings=found.warnings,
        picks=tuple(early + position for position in found.used),
        seek=seek,
        times=ahead.times,
        may_have_alpha=_may_have_alpha(decoded),
        decoder=source.decoder,
    )


@dataclass(frozen=True)
class _Ahead:
    """The frames from the first decoded one on: which of the clip's that is, how many, when."""

    first: int
    count: int
    times: tuple[float, ...] | None


def _check_packets(packets: Listing, start: float) -> None:
    if packets.width * packets.height > MAX_PIXELS:
        raise too_large(packets.width, packets.height)
    if packets.times is not None and start > packets.times[-1]:
        raise VideoTooShort(
            f"The clip ends at {packets.times[-1]:.6g} s, before start={start:g}.",
            hint="Send an earlier `start`.",
            frames=0,
            min_frames=MIN_FRAMES,
        )


def _check_sides(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise VideoUnreadable(
            f"The frames are {width} x {height} pixels; each side needs at least {MIN_SIDE}.",
            hint="Send a clip in which the subject can be seen.",
            width=width,
            height=height,
            min_side=MIN_SIDE,
        )


def _decoder(packets: Listing) -> str | None:
    """FFmpeg's own VP8 and VP9 decoders drop the alpha channel; libvpx's keep it."""
    if packets.codec in _VPX and re.search(r"alpha_mode\s*: *1", packets.said, re.IGNORECASE):
        return _VPX[packets.codec]
    return None


def _foretold(packets: Listing, decoded: Listing, most: int, first: int) -> _Ahead | None:
    """What the packets tell, if they foretell each of the `most` frames that were to be decoded.

    `first` is where the first decoded frame should be; a seek may differ by one.
    """
    if packets.times is None or decoded.times is None or decoded.rows < most:
        return None
    for index in (first, first + 1, first - 1):
        times = packets.times[max(index, 0) :]
        if len(times) >= most and agree(times, decoded.times):
            return _Ahead(max(index, 0), len(times), times)
    return None


def _seen(packets: Listing, decoded: Listing, most: int, first: int) -> _Ahead:
    """What was decoded; the packets only tell how many more there may be."""
    is_all = decoded.rows < most
    count = decoded.rows if is_all else max(decoded.rows, packets.rows - first)
    return _Ahead(first, count, decoded.times)


def agree(planned: Sequence[float], found: Sequence[float]) -> bool:
    """True if frames were found at the times planned, by less than half the usual interval.

    Both count from their first: decoders that reorder frames may shift all of them.
    """
    interval = (found[-1] - found[0]) / len(found)
    slack = max(min(0.4 * interval, 0.002), 1e-5)
    shift = planned[0] - found[0]
    return all(abs(p - f - shift) <= slack for p, f in zip(planned, found, strict=False))


def _enough(packets: Listing, before: int, fps: float | None) -> int:
    """How many frames to decode until no further one could change the plan."""
    if packets.times is None:
        return min(packets.rows, _MOST_WITHOUT_TIMES) + 1
    return horizon(packets.times[before:], fps) + 1


def _may_have_alpha(decoded: Listing) -> bool:
    match = re.search(r"Stream #0:0[^\n]*: Video: wrapped_avframe, (\w+)", decoded.said)
    return match is None or _WITH_ALPHA.match(match[1]) is not None


def _probe_zip(path: Path, start: float, fps: float | None, max_frames: int, proof: bool) -> Probe:
    """Pictures carry no times: `start` counts at the rate at which they will play."""
    with FramesZip(path) as zipped:
        total = len(zipped.pictures)
        first = round(min(start * (fps or FALLBACK_FPS), total))
        found = sample(None, total - first, fps=fps, max_frames=max_frames)
        used = tuple(first + pick for pick in found.used)
        chosen = [zipped.pictures[index] for index in used]
        width, height = zipped.one_size(chosen)
        if width * height > MAX_PIXELS:
            raise too_large(width, height)
        _check_sides(width, height)
        parts = [
            listing(source, list_frames(count + 1), wall_s=_WALL_S)
            for source, count in zip_inputs(zipped, chosen if proof else chosen[:1])
        ]
        rows = sum(part.rows for part in parts)
        if proof and rows != len(chosen):
            raise wrong_count(rows, len(chosen))
    return Probe(
        width=parts[0].width,
        height=parts[0].height,
        aspect=1.0,
        frames=total,
        source_fps=None,
        used=used,
        fps=found.fps,
        warnings=found.warnings,
        picks=found.used,
        seek=0.0,
        times=None,
        may_have_alpha=any(picture.kind != "jpeg_pipe" for picture in chosen),
    )


def zip_inputs(zipped: FramesZip, pictures: list[Picture]) -> Iterator[tuple[Input, int]]:
    """One input for every run of pictures of one kind, with how many they are."""
    for kind, run in groupby(pictures, key=lambda picture: picture.kind):
        alike = list(run)
        yield Input(zipped.contents(alike), kind), len(alike)


def wrong_count(decoded: int, pictures: int) -> VideoUnreadable:
    """For pictures that are broken, or more than one to a file."""
    return VideoUnreadable(
        f"The {pictures} pictures taken from the zip decode to {decoded} frames.",
        hint="Save the frames again as plain PNG files, one picture each.",
        frames=decoded,
        pictures=pictures,
    )
