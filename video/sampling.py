"""Chooses which frames of a clip a job uses: 31 or 16, in even steps. Decodes nothing.

ActionMesh processes windows of 16 frames; two windows that share a frame make 31, and 17 to 30
frames cost as much. So a job has 31 frames if the clip has them and `max_frames` allows, else 16.
Times are in seconds. Called by probe.py; web/sampling.js does the same in the browser.
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
MAX_FRAMES = 31
"""Two windows that share one frame; 17 to 30 frames cost as much, so a job takes 16 or 31."""
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
class Sampling:
    """Indices of the frames used, and their playback rate."""

    used: tuple[int, ...]
    fps: float
    warnings: tuple[ClipWarning, ...] = ()


def choose_frames(
    times: Sequence[float] | None, count: int, *, fps: float | None = None, max_frames: int = 31
) -> Sampling:
    """Choose among `count` frames, shown at `times` (ascending; None: pictures without times).

    The first `frames_needed()` of `times` are enough. `fps` asks for another rate. Raises
    VideoTooShort.
    """
    _require(count, fps=None)
    if times is None:
        return _at_fallback(count, fps, max_frames)
    times = _without_pauses(times[: frames_needed(times, fps)])
    rate = source_rate(times)
    if rate is None:
        lost = ClipWarning("playback_rate", "The clip does not say at which rate its frames play.")
        found = _at_fallback(count, fps, max_frames)
        return Sampling(found.used, found.fps, (lost, *found.warnings))
    if fps is not None:
        return _at_rate(times, rate, count, fps, max_frames)
    wanted = _frame_count(count, max_frames)
    if is_constant(times):
        stride = max(1, min((count - 1) // (wanted - 1), floor(rate / SLOWEST_FPS + 1e-6)))
        used = tuple(range(0, wanted * stride, stride))
        return _with_playback_rate(used, rate / stride, _unused_tail(used, stride, count))
    intervals = [later - earlier for earlier, later in pairwise(times)]
    step = (times[-1] - times[0]) / (wanted - 1)
    step = max(median(intervals), min(step, 1 / SLOWEST_FPS))
    used = _nearest(times, step, wanted)
    return _with_playback_rate(used, 1 / step, _unused_tail(used, ceil(step * rate), count))


def naming_seconds(
    warnings: Sequence[ClipWarning], used: Sequence[float] | None, times: Sequence[float] | None
) -> tuple[ClipWarning, ...]:
    """`window_only` instead of `unused_tail` where more is left of the clip than is used.

    `used` are the seconds of the frames used, `times` those of all; None where there are none.
    """
    if not used or not times or times[-1] - used[-1] <= used[-1] - used[0]:
        return tuple(warnings)
    end = times[-1]
    message = (
        f"Only {used[0]:.1f} s to {used[-1]:.1f} s of the clip are used; it ends at {end:.1f} s. "
        "To animate another part, set `start`; to cover more, set a lower `fps`."
    )
    return tuple(
        ClipWarning("window_only", message) if warning.code == "unused_tail" else warning
        for warning in warnings
    )


def _at_fallback(count: int, fps: float | None, max_frames: int) -> Sampling:
    wanted = _frame_count(count, max_frames)
    stride = (count - 1) // (wanted - 1)
    used = tuple(range(0, wanted * stride, stride))
    return Sampling(used, fps or FALLBACK_FPS, _unused_tail(used, stride, count))


def frames_needed(times: Sequence[float], fps: float | None = None) -> int:
    """The number of first frames that `choose_frames` depends on."""
    span = (MAX_FRAMES - 1) / min(fps or SLOWEST_FPS, SLOWEST_FPS)
    return max(MAX_FRAMES, bisect_left(times, times[0] + span + 1e-6) + 1) if times else 0


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
    times: Sequence[float], rate: float, count: int, fps: float, max_frames: int
) -> Sampling:
    """The frames nearest to every 1 / fps seconds."""
    warnings: tuple[ClipWarning, ...] = ()
    if fps > rate * 1.02:
        message = f"fps={fps:g} is more than the clip has ({rate:.4g}): every frame is taken."
        warnings = (ClipWarning("fps_lowered", message),)
    step = 1 / min(fps, rate)
    available = min(count, floor((times[-1] - times[0]) / step + 1e-3) + 1)
    _require(available, fps=fps, span_s=times[-1] - times[0])
    used = _nearest(times, step, _frame_count(available, max_frames))
    return _with_playback_rate(
        used, 1 / step, (*warnings, *_unused_tail(used, ceil(step * rate), count))
    )


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


def _frame_count(available: int, max_frames: int) -> int:
    return MAX_FRAMES if min(available, max_frames) >= MAX_FRAMES else MIN_FRAMES


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


def _unused_tail(used: Sequence[int], stride: int, count: int) -> tuple[ClipWarning, ...]:
    """A warning if a tenth of the clip, and one more step, would fit after the last frame used."""
    tail = count - 1 - used[-1]
    if tail < max(stride, _SPARE_SHARE * count):
        return ()
    message = (
        f"The last {tail} of {count} frames are not used: a job takes {MIN_FRAMES} or {MAX_FRAMES} "
        f"frames, at {SLOWEST_FPS:g} a second or more. To animate another part, set `start`; "
        "to cover more, set a lower `fps`."
    )
    return (ClipWarning("unused_tail", message),)
