"""Every size that a clip is worked on at, from the size of its source. No numpy.

video/probe.py asks at intake and again in the job, so that a clip with impossible sides is refused
before it is queued; video/frames.py decodes, and silhouette/ segments and measures motion, at the
sizes told here. The crop to the subject and the preview are squares of a fixed size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from errors import VideoUnreadable

MAX_PIXELS = 16_777_216
MIN_SIDE = 16
MAX_RATIO = 32
"""Of the longer side to the shorter one, with square pixels."""
DECODED_PX = 1024
"""Longest side of decoded frames: both pipelines work on less, and memory stays small."""
CLIP_PIXELS = 72_000_000
"""Of all decoded frames together: 121 of 1024 x 576. More frames, or square ones, are smaller."""
SEGMENTED_PX = (256, 512)
"""Colours are segmented at a longer side between these; smaller and larger frames are resized."""
FLOW_PX = 256
"""Longer side at which motion is measured."""
FLOW_MIN_SIDE = 32
"""OpenCV's DIS flow reads outside its arrays, and often crashes, if an image is less than 32 pixels
high (measured with all presets of 4.11 and 4.14); narrower ones it refuses or takes by luck."""

_MAX_ASPECT = 4.0


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class WorkingSizes:
    """The sizes of one clip's frames: `decoded` is what a pipeline gets, with square pixels.

    The silhouette looks for the subject at `segmented`, and for motion at `flow`.
    """

    decoded: Size
    segmented: Size
    flow: Size

    def for_frames(self, count: int) -> WorkingSizes:
        """The sizes of a clip of so many frames: not more than CLIP_PIXELS."""
        width, height = self.decoded
        shrink = (CLIP_PIXELS / (count * width * height)) ** 0.5
        return _sizes(width * shrink, height * shrink) if shrink < 1 else self


def working_sizes(width: int, height: int, aspect: float = 1.0) -> WorkingSizes:
    """The sizes for upright frames whose pixels are `aspect` times as wide as they are high.

    Raises VideoUnreadable, with numbers, for sides that a stage could not take.
    """
    if width * height > MAX_PIXELS:
        raise too_large(width, height)
    if min(width, height) < MIN_SIDE:
        raise _too_small(width, height)
    aspect = min(max(aspect, 1 / _MAX_ASPECT), _MAX_ASPECT)
    across, down = width * max(aspect, 1.0), height / min(aspect, 1.0)
    if max(across, down) > MAX_RATIO * min(across, down):
        raise _too_long(width, height, across, down)
    shrink = min(1.0, DECODED_PX / max(across, down))
    return _sizes(across * shrink, down * shrink)


def _sizes(width: float, height: float) -> WorkingSizes:
    decoded = Size(max(1, round(width)), max(1, round(height)))
    segmented = segmented_size(*decoded)
    return WorkingSizes(decoded, segmented, flow_size(*segmented))


def segmented_size(width: int, height: int) -> Size:
    """The size at which a part of the frames, or the whole of them, is segmented by colour."""
    least, most = SEGMENTED_PX
    return _resized(width, height, min(max(width, height, least), most))


def flow_size(width: int, height: int) -> Size:
    """The size at which motion in images of this size is measured."""
    return _resized(width, height, FLOW_PX)


def _resized(width: int, height: int, longer: int) -> Size:
    """`longer` on the longer side, or more, if the shorter one would be too short for the flow."""
    scale = max(longer / max(width, height), FLOW_MIN_SIDE / min(width, height))
    return Size(round(width * scale), round(height * scale))


def too_large(width: int, height: int) -> VideoUnreadable:
    """The error for frames over MAX_PIXELS."""
    return VideoUnreadable(
        f"The frames are {width} x {height} pixels; at most {MAX_PIXELS} pixels are decoded.",
        hint="Scale the clip down, for example to 1920 x 1080.",
        width=width,
        height=height,
        max_pixels=MAX_PIXELS,
    )


def _too_small(width: int, height: int) -> VideoUnreadable:
    return VideoUnreadable(
        f"The frames are {width} x {height} pixels; each side needs at least {MIN_SIDE}.",
        hint="Send a clip in which the subject can be seen.",
        width=width,
        height=height,
        min_side=MIN_SIDE,
    )


def _too_long(width: int, height: int, across: float, down: float) -> VideoUnreadable:
    square = "" if (across, down) == (width, height) else f" ({across:.0f} x {down:.0f} as shown)"
    return VideoUnreadable(
        f"The frames are {width} x {height} pixels{square}; "
        f"one side may be at most {MAX_RATIO} times the other.",
        hint="Cut the clip to the part in which the subject moves, or add a border.",
        width=width,
        height=height,
        max_ratio=MAX_RATIO,
    )
