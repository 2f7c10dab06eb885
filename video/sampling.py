"""Chooses which frames of a clip a job uses: 16 to 121 of them, in even steps. Decodes nothing.

A job has as many frames as the clip and `max_frames` allow, in the numbers that its pipeline takes.
ActionMesh works on windows of 16 frames that share one: it takes 16, 31, 46 and so on, since 17 to
30 frames would cost as much as 31. Times are in seconds. Called by probe.py; web/sampling.js does
the same in the browser.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, floor
from statistics import median
from typing import Any, NamedTuple

from errors import VideoTooShort

MIN_FRAMES = 16
"""ActionMesh's window: fewer frames are refused."""
DEFAULT_FRAMES = 31
"""Two windows of ActionMesh."""
MAX_FRAMES = 121
"""Eight windows of ActionMesh: 15 seconds at SLOWEST_FPS, five at 24 frames a second."""
SLOWEST_FPS = 8.0
"""Sampled frames never come more slowly: motion between two of them would be too large to track."""
FALLBACK_FPS = 12.0
"""Playback rate of frames without times, or with times outside _WATCHABLE_FPS."""
_WATCHABLE_FPS = (1.0, 120.0)
_SPARE_SHARE = 0.1  # of a clip's frames: fewer may be left over without a warning
_FASTEST_FPS = 100_000.0  # above it the times are not usable

_KNOWN_RATES = (
    *(24000 / 1001, 30000 / 1001, 60000 / 1001, 120000 / 1001),
    *(10.0, 12.0, 12.5, 15.0, 20.0, 24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 90.0, 100.0, 120.0, 240.0),
)


class ClipWarning(NamedTuple):
    """A warning for the owner of the job."""

    code: str
    message: str


@dataclass(frozen=True)
class FrameRequest:
    """Which frames are asked for: from `start` seconds on, `fps` a second, at most `max_frames`.

    Without `fps` they are spread over the clip. Their number is 16, or any number of `step`s more.
    """

    start: float = 0.0
    fps: float | None = None
    max_frames: int = DEFAULT_FRAMES
    step: int = 1

    def count(self, available: int) -> int:
        """How many of the `available` frames, at least 16, are taken."""
        most = min(available, self.max_frames)
        return most - (most - MIN_FRAMES) % self.step


DEFAULT_REQUEST = FrameRequest()


@dataclass(frozen=True)
class Sampling:
    """Indices of the frames used, and their playback rate."""

    used: tuple[int, ...]
    fps: float
    warnings: tuple[ClipWarning, ...] = ()


def choose_frames(
    times: Sequence[float] | None, count: int, request: FrameRequest = DEFAULT_REQUEST
) -> Sampling:
    """Choose among `count` frames, shown at `times` (ascending; None: pictures without times).

    They begin at `request.start`. The first `frames_needed()` of `times` are enough. Raises
    VideoTooShort.
    """
    _require(count, fps=None)
    if times is None:
        return _at_fallback(count, request)
    times = _without_pauses(times[: frames_needed(times, request)])
    rate = source_rate(times)
    if rate is None:
        lost = ClipWarning("playback_rate", "The clip does not say at which rate its frames play.")
        found = _at_fallback(count, request)
        return Sampling(found.used, found.fps, (lost, *found.warnings))
    if request.fps is not None:
        return _at_rate(times, rate, count, request.fps, request)
    wanted = request.count(count)
    if is_constant(times):
        stride = max(1, min((count - 1) // (wanted - 1), floor(rate / SLOWEST_FPS + 1e-6)))
        used = tuple(range(0, wanted * stride, stride))
        return _with_playback_rate(used, rate / stride, _unused_tail(used, stride, count, request))
    intervals = [later - earlier for earlier, later in pairwise(times)]
    step = (times[-1] - times[0]) / (wanted - 1)
    step = max(median(intervals), min(step, 1 / SLOWEST_FPS))
    used = _nearest(times, step, wanted)
    tail = _unused_tail(used, ceil(step * rate), count, request)
    return _with_playback_rate(used, 1 / step, tail)


def naming_seconds(
    warnings: Sequence[ClipWarning],
    used: Sequence[float] | None,
    times: Sequence[float] | None,
    request: FrameRequest,
) -> tuple[ClipWarning, ...]:
    """`window_only` instead of `unused_tail` where more is left of the clip than is used.

    `used` are the seconds of the frames used, `times` those of all; None where there are none.
    """
    if not used or not times or times[-1] - used[-1] <= used[-1] - used[0]:
        return tuple(warnings)
    end = times[-1]
    message = (
        f"Only {used[0]:.1f} s to {used[-1]:.1f} s of the clip are used; it ends at {end:.1f} s. "
        + _how_to_use_more(request.max_frames < MAX_FRAMES)
    )
    return tuple(
        ClipWarning("window_only", message) if warning.code == "unused_tail" else warning
        for warning in warnings
    )


def _at_fallback(count: int, request: FrameRequest) -> Sampling:
    wanted = request.count(count)
    stride = (count - 1) // (wanted - 1)
    used = tuple(range(0, wanted * stride, stride))
    return Sampling(used, request.fps or FALLBACK_FPS, _unused_tail(used, stride, count, request))


def frames_needed(times: Sequence[float], request: FrameRequest = DEFAULT_REQUEST) -> int:
    """The number of first frames that `choose_frames` depends on."""
    most = max(request.max_frames, DEFAULT_FRAMES)  # fewer say less about the clip's rate
    span = (most - 1) / min(request.fps or SLOWEST_FPS, SLOWEST_FPS)
    return max(most, bisect_left(times, times[0] + span + 1e-6) + 1) if times else 0


def source_rate(times: Sequence[float]) -> float | None:
    """Mean frames per second; None if the times do not give it."""
    if len(times) < 2 or times[-1] - times[0] < len(times) / _FASTEST_FPS:
        return None
    rate = (len(times) - 1) / (times[-1] - times[0])
    # containers round times, to milliseconds at worst: 30.016 means 30
    nearest = min(_KNOWN_RATES, key=lambda known: abs(known - rate))
    return nearest if abs(nearest - rate) <= 0.002 * nearest else rate


def is_constant(times: Sequence[float]) -> bool:
    """True if all intervals are alike, within a quarter and the rounding of containers."""
    intervals = [later - earlier for earlier, later in pairwise(times)]
    usual = median(intervals)
    return all(abs(interval - usual) <= 0.25 * usual + 0.0015 for interval in intervals)


def _without_pauses(times: Sequence[float]) -> list[float]:
    """The same times with long pauses shortened.

    In a pause of a screen recording, equal steps would take one frame many times.
    """
    intervals = [later - earlier for earlier, later in pairwise(times)]
    longest = max(1 / SLOWEST_FPS, 3 * median(intervals))
    return list(accumulate((min(gap, longest) for gap in intervals), initial=times[0]))


def _at_rate(
    times: Sequence[float], rate: float, count: int, fps: float, request: FrameRequest
) -> Sampling:
    """The frames nearest to every 1 / fps seconds."""
    warnings: tuple[ClipWarning, ...] = ()
    if fps > rate * 1.02:
        message = f"fps={fps:g} is more than the clip has ({rate:.4g}): every frame is taken."
        warnings = (ClipWarning("fps_lowered", message),)
    step = 1 / min(fps, rate)
    available = min(count, floor((times[-1] - times[0]) / step + 1e-3) + 1)
    _require(available, fps=fps, span_s=times[-1] - times[0])
    used = _nearest(times, step, request.count(available))
    tail = _unused_tail(used, ceil(step * rate), count, request)
    return _with_playback_rate(used, 1 / step, (*warnings, *tail))


def _nearest(times: Sequence[float], step: float, wanted: int) -> tuple[int, ...]:
    """Nearest frames at a constant step, none twice."""
    used: list[int] = []
    for k in range(wanted):
        target = times[0] + k * step
        after = min(bisect_left(times, target), len(times) - 1)
        before = max(after - 1, 0)
        # of two equally near, the earlier one; times are accurate to a microsecond
        closer = before if target - times[before] <= times[after] - target + 1e-6 else after
        first, last = (used[-1] + 1 if used else 0), len(times) - (wanted - k)
        used.append(min(max(closer, first), last))
    return tuple(used)


def _require(available: int, fps: float | None, span_s: float = 0.0) -> None:
    if available >= MIN_FRAMES:
        return
    facts: dict[str, Any] = {"frames": available, "min_frames": MIN_FRAMES}
    frames = "1 frame" if available == 1 else f"{available} frames"
    if fps is None:
        raise VideoTooShort(f"The clip gives {frames}; at least {MIN_FRAMES} are needed.", **facts)
    enough = ceil((MIN_FRAMES - 1) / span_s) if span_s > 0 else 60
    raise VideoTooShort(
        f"At fps={fps:g} the clip gives {frames}; at least {MIN_FRAMES} are needed.",
        hint=f"Send fps={min(enough, 60)} or more, leave fps out, or send a longer clip.",
        **facts,
    )


def _with_playback_rate(
    used: tuple[int, ...], fps: float, warnings: tuple[ClipWarning, ...]
) -> Sampling:
    slowest, fastest = _WATCHABLE_FPS
    if slowest <= fps <= fastest:
        return Sampling(used, round(fps, 4), warnings)
    message = (
        f"The clip's frames come at {fps:.4g} a second; the mesh plays them at {FALLBACK_FPS:g}."
    )
    return Sampling(used, FALLBACK_FPS, (*warnings, ClipWarning("playback_rate", message)))


def _unused_tail(
    used: Sequence[int], stride: int, count: int, request: FrameRequest
) -> tuple[ClipWarning, ...]:
    """A warning if a tenth of the clip, and one more step, would fit after the last frame used."""
    tail = count - 1 - used[-1]
    if tail < max(stride, _SPARE_SHARE * count):
        return ()
    step, most = request.step, request.max_frames
    numbers = "" if step == 1 else f"{MIN_FRAMES}, {MIN_FRAMES + step}, {MIN_FRAMES + 2 * step} ..."
    takes = f"{numbers} frames, here at most {most}" if numbers else f"at most {most} frames"
    more_frames_help = len(used) + step > most < MAX_FRAMES and tail >= step * stride
    message = (
        f"The last {tail} of {count} frames are not used: the job takes {takes}, at "
        f"{SLOWEST_FPS:g} a second or more. {_how_to_use_more(more_frames_help)}"
    )
    return (ClipWarning("unused_tail", message),)


def _how_to_use_more(more_frames_help: bool) -> str:
    larger = f"a larger `max_frames` (up to {MAX_FRAMES}) or " if more_frames_help else ""
    return f"To animate another part, set `start`; to cover more, set {larger}a lower `fps`."
