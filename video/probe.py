"""Reads the facts of an uploaded clip and plans which of its frames a job takes. No numpy.

`probe` handles every container. It lists the packets (cheap: nothing is decoded), decodes the first
frames to check that the packets match them, and decodes more only where they differ (streams with
hidden frames, for example). Called by intake/ and by video/frames.py, which decodes the plan.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from errors import VideoTooShort, VideoUnreadable
from video.clip import SourceFacts
from video.ffmpeg import (
    PACKET_LIST_ARGUMENTS,
    Container,
    FrameList,
    Input,
    frame_list_arguments,
    read_frame_list,
)
from video.ffmpeg_phrases import HdrColours, decoded_pixel_format, has_vpx_alpha, hdr_colours
from video.frames_zip import FramesZip, Still
from video.sampling import (
    DEFAULT_REQUEST,
    FALLBACK_FPS,
    MIN_FRAMES,
    ClipWarning,
    FrameRequest,
    choose_frames,
    frames_needed,
    naming_seconds,
    source_rate,
)
from video.sizes import MAX_PIXELS, WorkingSizes, too_large, working_sizes

_CHECKED_FRAMES = 31
"""Of a video, decoded at intake however many the job takes: packets that differ from the frames do
so from the start, and a clip that is damaged later is planned again by the job. Of a zip, decoded
by one ffmpeg: each has its own limit of time."""
_MOST_WITHOUT_TIMES = 1000
_WITH_ALPHA = re.compile(r"yuva|ya\d|gbrap|rgba|bgra|argb|abgr|ayuv|vuya|uyva|pal8")
_VPX = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class Probe:
    """Facts about a clip, and the plan: which frames, at which rate, and how to decode them.

    `picks` are the frames used, counted from the first frame decoded after seeking to `seek`;
    `times` (s) belong to the decoded frames. `seconds` are those of the frames used, in the clip;
    None where frames have no times.
    """

    source: SourceFacts
    fps: float
    warnings: tuple[ClipWarning, ...]
    picks: tuple[int, ...]
    may_have_alpha: bool
    sizes: WorkingSizes
    seek: float = 0.0
    times: tuple[float, ...] | None = None
    decoder: str | None = None
    hdr: HdrColours | None = None
    seconds: tuple[float, ...] | None = None


class Span(NamedTuple):
    """Frames of the source: from `first` to `last`, both included; None is the end."""

    first: int
    last: int | None


def probe(
    path: Path,
    container: Container,
    request: FrameRequest = DEFAULT_REQUEST,
    *,
    check_frames: bool = True,
    decode_all: bool = False,
    within: Span | None = None,
) -> Probe:
    """Raises VideoUnreadable, VideoTooShort.

    `check_frames` decodes the first 31 frames, or all pictures taken from a zip; else only the
    first is decoded. `decode_all` ignores the packets and decodes every frame that the plan can
    depend on. Of the frames that are asked for, only those `within` are used.
    """
    asked = _Asked(request, within or Span(0, None))
    if container == "zip":
        return _probe_zip(path, asked, check_frames)
    with open(path, "rb") as file:
        source = Input(file, container)
        packets = read_frame_list(source, PACKET_LIST_ARGUMENTS)
        _check_packets(packets, request.start)
        source = replace(source, decoder=_decoder(packets))
        found = None
        if not decode_all:
            to_decode = _CHECKED_FRAMES if check_frames else 1
            found = _probe_video(source, packets, asked, to_decode)
        if found is None:
            found = _probe_video(source, packets, asked, None)
    assert found is not None  # a plan made from the frames always fits them
    return found


@dataclass(frozen=True)
class _Asked:
    """What is asked for; as the arguments of `probe`."""

    request: FrameRequest
    within: Span


def _probe_video(
    source: Input, packets: FrameList, asked: _Asked, to_decode: int | None
) -> Probe | None:
    """The plan by the packets, None if the first `to_decode` frames do not match them.

    With `to_decode` None it is made from decoded frames instead, as many as it can depend on.
    """
    start = asked.request.start
    at_start = bisect_left(packets.times or (), start - 1e-5)
    # seeking is not exact in an AVI with B-frames, and in a GIF or an animated WebP a frame changes
    # only a part of those before it: there, frames before `start` are decoded as well
    seek = start if source.demuxer not in ("avi", "webp_anim", "gif") else 0.0
    early = 0 if seek == start else at_start
    most = early + (to_decode or _frames_to_decode(packets, at_start, asked))
    decoded = read_frame_list(replace(source, start=seek), frame_list_arguments(most))
    sizes = working_sizes(decoded.width, decoded.height, decoded.aspect)
    make_plan = _plan_from_packets if to_decode else _plan_from_frames
    plan = make_plan(packets, decoded, most, at_start - early)
    if plan is None:
        return None
    begin, end = plan.part(early, asked.within)
    wanted = None if plan.times is None else plan.times[begin:end]
    found = choose_frames(wanted, max(end - begin, 0), asked.request)
    picks = tuple(begin + position for position in found.used)
    offset = 0.0 if to_decode else seek
    times = plan.times
    seconds = None if times is None else tuple(offset + times[pick] for pick in picks)
    return Probe(
        source=SourceFacts(
            width=decoded.width,
            height=decoded.height,
            frames=plan.first + plan.count,
            fps=None if times is None else source_rate(times),
            used=tuple(plan.first + pick for pick in picks),
        ),
        fps=found.fps,
        warnings=naming_seconds(found.warnings, seconds, packets.times, asked.request),
        picks=picks,
        may_have_alpha=_may_have_alpha(decoded),
        sizes=sizes.for_frames(len(picks)),
        seek=seek,
        times=times,
        decoder=source.decoder,
        hdr=hdr_colours(decoded.stderr),
        seconds=seconds,
    )


@dataclass(frozen=True)
class _FramePlan:
    """The frames from the first decoded one on: its index in the clip, their number and times."""

    first: int
    count: int
    times: tuple[float, ...] | None

    def part(self, early: int, within: Span) -> tuple[int, int]:
        """The first of them to use, after `early` ones, and one past the last."""
        begin = max(early, within.first - self.first)
        if within == Span(0, None):
            return begin, self.count
        known = self.count if self.times is None else len(self.times)
        end = known if within.last is None else within.last + 1 - self.first
        return begin, min(end, known)


def _check_packets(packets: FrameList, start: float) -> None:
    if packets.width * packets.height > MAX_PIXELS:
        raise too_large(packets.width, packets.height)
    if packets.times is not None and start > packets.times[-1]:
        raise VideoTooShort(
            f"The clip ends at {packets.times[-1]:.6g} s, before start={start:g}.",
            hint="Send an earlier `start`.",
            frames=0,
            min_frames=MIN_FRAMES,
        )


def _decoder(packets: FrameList) -> str | None:
    """FFmpeg's own VP8 and VP9 decoders drop the alpha channel; libvpx's keep it."""
    if packets.codec in _VPX and has_vpx_alpha(packets.stderr):
        return _VPX[packets.codec]
    return None


def _plan_from_packets(
    packets: FrameList, decoded: FrameList, most: int, first: int
) -> _FramePlan | None:
    """The plan by packet times, if they match all of the `most` frames that were to be decoded.

    `first` is the expected index of the first decoded frame; a seek may differ by one.
    """
    if packets.times is None or decoded.times is None or decoded.rows < most:
        return None
    for index in (first, first + 1, first - 1):
        times = packets.times[max(index, 0) :]
        if len(times) >= most and times_agree(times, decoded.times):
            return _FramePlan(max(index, 0), len(times), times)
    return None


def _plan_from_frames(packets: FrameList, decoded: FrameList, most: int, first: int) -> _FramePlan:
    """The plan by decoded times; the packets only give the number of frames after them."""
    is_all = decoded.rows < most
    count = decoded.rows if is_all else max(decoded.rows, packets.rows - first)
    return _FramePlan(first, count, decoded.times)


def times_agree(planned: Sequence[float], found: Sequence[float]) -> bool:
    """True if the times differ by less than half the usual interval, up to a common shift.

    Decoders that reorder frames may shift all times alike.
    """
    interval = (found[-1] - found[0]) / len(found)
    slack = max(min(0.4 * interval, 0.002), 1e-5)
    shift = planned[0] - found[0]
    return all(abs(p - f - shift) <= slack for p, f in zip(planned, found, strict=False))


def _frames_to_decode(packets: FrameList, before: int, asked: _Asked) -> int:
    """The number of frames, from that number `before` on, after which none can change the plan."""
    if packets.times is None:
        return min(packets.rows, _MOST_WITHOUT_TIMES) + 1
    skipped = min(max(asked.within.first - before, 0), max(packets.rows - before - 1, 0))
    return skipped + frames_needed(packets.times[before + skipped :], asked.request) + 1


def _may_have_alpha(decoded: FrameList) -> bool:
    name = decoded_pixel_format(decoded.stderr)
    return name is None or _WITH_ALPHA.match(name) is not None


def _probe_zip(path: Path, asked: _Asked, check_frames: bool) -> Probe:
    """Pictures have no times: `start` counts at the rate at which they will play."""
    request = asked.request
    with FramesZip(path) as zipped:
        total = len(zipped.pictures)
        first = round(min(request.start * (request.fps or FALLBACK_FPS), total))
        first, last = max(first, asked.within.first), asked.within.last
        count = (total if last is None else last + 1) - first
        found = choose_frames(None, count, request)
        used = tuple(first + pick for pick in found.used)
        stills = zipped.stills([zipped.pictures[index] for index in used])
        width, height = stills[0].width, stills[0].height
        # before anything is decoded
        sizes = working_sizes(width, height).for_frames(len(used))
        checked = stills if check_frames else stills[:1]
        parts = [
            read_frame_list(source, (*source.turned("null"), *frame_list_arguments(count + 1)))
            for start in range(0, len(checked), _CHECKED_FRAMES)
            for source, count in zip_inputs(zipped, checked[start : start + _CHECKED_FRAMES])
        ]
        rows = sum(part.rows for part in parts)
        if check_frames and rows != len(checked):
            raise wrong_count(rows, len(checked))
    return Probe(
        SourceFacts(width, height, total, None, used),
        fps=found.fps,
        warnings=found.warnings,
        picks=found.used,
        may_have_alpha=any(still.picture.kind != "jpeg_pipe" for still in stills),
        sizes=sizes,
    )


def zip_inputs(zipped: FramesZip, stills: Sequence[Still]) -> Iterator[tuple[Input, int]]:
    """One input for every run of pictures of one kind and orientation, with their number."""
    for (kind, orientation), run in groupby(stills, key=lambda s: (s.picture.kind, s.orientation)):
        alike = list(run)
        yield Input(zipped.contents(alike), kind, orientation=orientation), len(alike)


def wrong_count(decoded: int, pictures: int) -> VideoUnreadable:
    """The error for broken pictures, or for more than one picture in a file."""
    return VideoUnreadable(
        f"The {pictures} pictures taken from the zip decode to {decoded} frames.",
        hint="Save the frames again as plain PNG files, one picture each.",
        frames=decoded,
        pictures=pictures,
    )
