"""Looks through a whole video, small and grey, for the part in which something moves.

A cheap look for jobs whose first seconds show no subject: few pixels, few frames, limited CPU time.
What moves is compared with the camera's own motion. Called by child/recipe.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from video.ffmpeg import Input, VideoContainer, input_arguments
from video.sandbox import Limits, OutOfTime, run_sandboxed

_FPS = 4
_SIDE_PX = 96
_MOST_FRAMES = 2400
"""Ten minutes of video; what comes later is not looked at."""
_LIMITS = Limits(cpu_s=60)
_WALL_S = 120.0
_CHANGED = 14.0  # grey values, of 255
_LEAST_SHARE = 0.002
_MOST_SHARE = 0.5  # more of the picture changes by a cut, a flash, or the camera

Pictures = NDArray[np.uint8]


def find_motion(
    path: Path,
    container: VideoContainer,
    span_s: float,
    tick: Callable[[], None] = lambda: None,
) -> float | None:
    """When the `span_s` seconds with the most motion begin; None if nothing moves.

    Raises what `tick` raises, which is called again and again.
    """
    pictures = _small_pictures(path, container, tick)
    wanted = max(1, round(span_s * _FPS))
    shares = np.array([_moving_share(a, b) for a, b in pairwise(pictures)])
    if len(shares) < wanted:
        return None
    means = np.convolve(shares, np.full(wanted, 1 / wanted), mode="valid")
    best = int(means.argmax())
    return best / _FPS if means[best] >= _LEAST_SHARE else None


def _small_pictures(path: Path, container: VideoContainer, tick: Callable[[], None]) -> Pictures:
    """Grey pictures `(T, 96, 96)`, stretched to squares; those before a limit of time."""
    with open(path, "rb") as file:
        args = [
            *("-skip_frame", "noref", "-skip_loop_filter", "all"),
            *input_arguments(Input(file, container)),
            *("-map", "0:V:0", "-vf", f"fps={_FPS},scale={_SIDE_PX}:{_SIDE_PX}:flags=area"),
            *("-frames:v", str(_MOST_FRAMES), "-pix_fmt", "gray", "-f", "rawvideo", "pipe:1"),
        ]
        with run_sandboxed(args, stdin=file, wall_s=_WALL_S, limits=_LIMITS) as ffmpeg:
            content = bytearray()
            while part := ffmpeg.stdout.read(_FPS * _SIDE_PX**2):
                content += part
                tick()
            with contextlib.suppress(OutOfTime):
                ffmpeg.finish()
    count = len(content) // _SIDE_PX**2
    pixels = np.frombuffer(content, np.uint8, count * _SIDE_PX**2)
    return pixels.reshape(count, _SIDE_PX, _SIDE_PX)


def _moving_share(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Share of the picture that changes beyond a shift of the whole and a change of light."""
    one = cv2.GaussianBlur(before, (0, 0), 1.2).astype(np.float32)
    other = cv2.GaussianBlur(after, (0, 0), 1.2).astype(np.float32)
    window = cv2.createHanningWindow((_SIDE_PX, _SIDE_PX), cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(one, other, window)
    shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    moved = cv2.warpAffine(one, shift, (_SIDE_PX, _SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    change = other - moved
    share = float((np.abs(change - np.median(change)) > _CHANGED).mean())
    return share if share <= _MOST_SHARE else 0.0
