"""Decodes the frames of probe.py's plan in the sandbox: upright, square pixels, reduced in size.

Runs in the job's process, which has numpy; the API process uses only probe.py. One pass of ffmpeg
gives the pixels and also the times of every frame that it decoded: if these differ from the plan,
the plan is made again from the frames that really decode. Called by child/recipe.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from errors import VideoTooShort, VideoUnreadable
from video.clip import Clip
from video.ffmpeg import (
    Container,
    FrameList,
    Input,
    frame_list_arguments,
    input_arguments,
    parse_frame_list,
    too_slow,
    unreadable,
)
from video.frames_zip import FramesZip
from video.hdr import can_tone_map, hdr_warning, tone_mapping
from video.probe import Probe, Span, probe, times_agree, wrong_count, zip_inputs
from video.sampling import DEFAULT_FRAMES, DEFAULT_REQUEST, MIN_FRAMES, ClipWarning, FrameRequest
from video.sandbox import DECODE, OutOfTime, run_sandboxed
from video.scene_cuts import cut_warning, find_cuts, scenes

_WALL_S = 300.0
"""For 31 frames, as the limit of CPU time is; more may take longer in proportion."""
_MOST_TERMS = 64
_OPAQUE = 250  # of 255: lossy codecs change the alpha channel, too

_MOST_CUT_SEARCHES = 3
"""The last scene found goes on after the frames seen: another cut may lie there."""

_ABOUT_THE_REST = ("unused_tail", "window_only")

OnProgress = Callable[[int, int], None]
_Decoded = tuple[Probe, NDArray[np.uint8]]


def read_clip(
    path: Path,
    container: Container,
    request: FrameRequest = DEFAULT_REQUEST,
    *,
    on_progress: OnProgress = lambda step, steps: None,  # noqa: ARG005
) -> tuple[Clip, tuple[ClipWarning, ...]]:
    """Frames uint8 `(T, H, W, 3)`, or 4 where one is not opaque. `on_progress(step, steps)`.

    All are of one scene where that is possible. Raises VideoUnreadable, VideoTooShort, and whatever
    `on_progress` raises.
    """

    def read(within: Span | None, fps: float | None) -> _Decoded:
        if within:
            on_progress(0, request.max_frames)  # again; to plan takes seconds in a long file
        ask = partial(probe, path, container, replace(request, fps=fps), within=within)
        return _read(path, container, ask, on_progress)

    whole = read(None, request.fps)
    plan, frames, warning = _one_scene(whole, read, request.fps, prefers_first=request.start > 0)
    if frames.shape[3] == 4 and int(frames[..., 3].min()) >= _OPAQUE:
        frames = np.ascontiguousarray(frames[..., :3])
    warnings = plan.warnings
    if warning:  # it says what is used
        warnings = (warning, *(other for other in warnings if other.code not in _ABOUT_THE_REST))
    if plan.hdr:
        warnings = (hdr_warning(plan.hdr), *warnings)
    return Clip(frames, plan.fps, plan.source, plan.seconds), warnings


def _read(
    path: Path, container: Container, ask: Callable[..., Probe], on_progress: OnProgress
) -> _Decoded:
    """The plan and its frames; `ask` is `probe` with everything but how it checks."""
    plan = ask(check_frames=False)
    if container == "zip":
        return plan, _decode_zip(path, plan, on_progress)
    frames = _decode(path, container, plan, on_progress)
    if frames is None:  # damaged later in the file: plan again from what can be decoded
        plan = ask(decode_all=True)
        frames = _decode(path, container, plan, on_progress)
    if frames is None:
        raise VideoUnreadable("The clip does not decode to the same frames twice.")
    return plan, frames


def _one_scene(
    whole: _Decoded,
    read: Callable[[Span | None, float | None], _Decoded],
    fps: float | None,
    prefers_first: bool,
) -> tuple[Probe, NDArray[np.uint8], ClipWarning | None]:
    """Frames of one scene: of the longest one that gives enough frames, or of the first one."""
    found, within, places = whole, Span(0, None), list[str]()
    for _ in range(_MOST_CUT_SEARCHES):
        plan, frames = found
        cuts = find_cuts(frames)
        if not cuts:
            break
        places += [_place(plan, cut) for cut in cuts]
        parts = scenes(plan.source.used, cuts, within)
        if prefers_first:
            parts.sort(key=lambda part: part.first)
        for part in parts:
            again = _read_part(part, read, fps)
            if again:
                found, within = again, part
                break
        else:
            return *whole, cut_warning(places, None)
    plan, frames = found
    if not places:
        return plan, frames, None
    if find_cuts(frames):
        return *whole, cut_warning(places, None)
    return plan, frames, cut_warning(places, (_place(plan, 0), _place(plan, -1)))


def _read_part(
    part: Span, read: Callable[[Span | None, float | None], _Decoded], fps: float | None
) -> _Decoded | None:
    """At the client's rate, or else at the clip's own; None if there are too few frames."""
    if part.last is not None and part.last - part.first + 1 < MIN_FRAMES:
        return None
    for rate in dict.fromkeys((fps, None)):
        try:
            return read(part, rate)
        except VideoTooShort:
            continue
    return None


def _place(plan: Probe, index: int) -> str:
    """Where the frame used lies in the clip: seconds, or for pictures their number from 1."""
    if plan.seconds is None:
        return f"picture {plan.source.used[index] + 1}"
    return f"{plan.seconds[index]:.1f} s"


def _decode(
    path: Path, container: Container, plan: Probe, on_progress: OnProgress
) -> NDArray[np.uint8] | None:
    """The planned frames, or None if the decoded times do not match the plan."""
    assert container != "zip"
    frames = _empty(plan)
    with open(path, "rb") as file, tempfile.TemporaryFile() as rows:
        source = Input(file, container, plan.decoder, plan.seek)
        args = [
            *input_arguments(source),
            *_pixels(source, f"select='{_is_one_of(plan.picks)}',", plan),
            *frame_list_arguments(plan.picks[-1] + 1),
            *("-f", "framecrc", f"pipe:{rows.fileno()}"),
        ]
        filled, _ = _run(args, source, frames, on_progress, 0, pass_fd=rows.fileno())
        rows.seek(0)
        seen = parse_frame_list(rows.read().decode("ascii", "replace"), container)
    return frames if filled == len(frames) and _matches_packets(plan, seen) else None


def _is_one_of(picks: Sequence[int]) -> str:
    """For ffmpeg's select, which takes no sum of more than 100 terms: a sum of shorter sums."""
    terms = [f"eq(n,{pick})" for pick in picks]
    sums = ["+".join(terms[k : k + _MOST_TERMS]) for k in range(0, len(terms), _MOST_TERMS)]
    return "+".join(f"({part})" for part in sums)


def _decode_zip(path: Path, plan: Probe, on_progress: OnProgress) -> NDArray[np.uint8]:
    frames = _empty(plan)
    filled = 0
    with FramesZip(path) as zipped:
        stills = zipped.stills([zipped.pictures[index] for index in plan.source.used])
        for source, count in zip_inputs(zipped, stills):
            args = [*input_arguments(source), *_pixels(source, "", plan, count + 1)]
            found, stderr = _run(args, source, frames[: filled + count], on_progress, filled)
            if found == filled:
                raise unreadable(stderr)
            if found != filled + count:
                raise wrong_count(found, len(stills))
            filled = found
    return frames


def _empty(plan: Probe) -> NDArray[np.uint8]:
    width, height = plan.sizes.decoded
    return np.empty((len(plan.picks), height, width, 4 if plan.may_have_alpha else 3), np.uint8)


def _pixels(source: Input, select: str, plan: Probe, most: int | None = None) -> list[str]:
    """Output arguments: raw pixels on stdout."""
    width, height = plan.sizes.decoded
    # area averages when it shrinks; at its own size a frame is only converted
    scale = f"scale={width}:{height}:flags=area+accurate_rnd+full_chroma_int"
    if plan.hdr and can_tone_map():
        scale = tone_mapping(plan.hdr, scale, plan.may_have_alpha)
    return [
        *("-map", "0:V:0", *source.turned(select + scale), "-fps_mode", "passthrough"),
        *("-frames:v", str(most or len(plan.picks))),
        *("-pix_fmt", "rgba" if plan.may_have_alpha else "rgb24", "-f", "rawvideo", "pipe:1"),
    ]


def _run(
    args: list[str],
    source: Input,
    frames: NDArray[np.uint8],
    on_progress: OnProgress,
    filled: int,
    pass_fd: int | None = None,
) -> tuple[int, str]:
    """Fill `frames` from index `filled`; the new number, plus 1 if ffmpeg had more; and stderr."""
    fds = () if pass_fd is None else (pass_fd,)
    share = max(1.0, len(frames) / DEFAULT_FRAMES)
    limits, wall_s = replace(DECODE, cpu_s=round(share * DECODE.cpu_s)), share * _WALL_S
    try:
        with run_sandboxed(
            args, stdin=source.rewound(), wall_s=wall_s, limits=limits, pass_fds=fds
        ) as ffmpeg:
            while filled < len(frames) and _read_into(ffmpeg.stdout, frames[filled]):
                filled += 1
                on_progress(filled, len(frames))
            more = filled == len(frames) and ffmpeg.stdout.read(1) != b""
            _, stderr = ffmpeg.finish()
    except OutOfTime as exc:
        raise too_slow() from exc
    return filled + more, stderr


def _read_into(pipe: IO[bytes], frame: NDArray[np.uint8]) -> bool:
    """Read one frame; False if the pipe ends before it is complete."""
    wanted = frame.data.cast("B")
    while wanted:
        got = pipe.readinto(wanted)  # type: ignore[attr-defined]
        if not got:
            return False
        wanted = wanted[got:]
    return True


def _matches_packets(plan: Probe, seen: FrameList) -> bool:
    """True if every frame up to the last one used has the time that the plan expects."""
    count = plan.picks[-1] + 1
    if seen.rows < count:
        return False
    if plan.times is None or seen.times is None:
        return plan.times is None
    return times_agree(plan.times[:count], seen.times[:count])
