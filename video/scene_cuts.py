"""Finds scene cuts among decoded frames, and the scenes to use instead. Called by frames.py.

A cut changes the colours of the picture and where they are, and the picture does not change back.
Motion and pans keep the colours, a change of light keeps the places, a flash changes back, and a
fade takes several frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import cv2
import numpy as np
from numpy.typing import NDArray

from video.probe import Span
from video.sampling import ClipWarning

_SMALL_PX = 32
_COLOUR_PX = 128
_BINS = 12
_FLAT = 3.0  # deviation of the values, of 255: black, white and other pictures without content

# Measured with 27 real clips at 8 to 30 frames a second: none has a cut of its own by these limits
# (distance up to 0.14, of a phone swung around 0.30), and of the 702 joins of one to another 694
# are found; the other eight show the same subject or the same backdrop.
_DISTANCE, _CORRELATION = 0.40, 0.75
_LEAST_DISTANCE, _LEAST_CORRELATION, _LEAST_CHANGE = 0.24, 0.50, 25.0
_TIMES_USUAL = 2.5
_FLASH_FRAMES = 3


@dataclass(frozen=True)
class _Look:
    """What is compared of a frame: a histogram of colours, and a small picture."""

    colours: NDArray[np.float32]
    small: NDArray[np.float32]
    structure: NDArray[np.float32] | None

    def distance(self, other: _Look) -> float:
        """Hellinger distance of the colours, 0 to 1."""
        overlap = float((self.colours * other.colours).sum())
        return float(np.sqrt(max(0.0, 1.0 - overlap)))

    def change(self, other: _Look) -> float:
        """Mean difference of the small pictures, of 255."""
        return float(np.abs(self.small - other.small).mean())

    def correlation(self, other: _Look) -> float:
        """-1 to 1; 1 where one is flat: it says nothing."""
        if self.structure is None or other.structure is None:
            return 1.0
        return float((self.structure * other.structure).sum())


def find_cuts(frames: NDArray[np.uint8]) -> tuple[int, ...]:
    """The frames, of `(T, H, W, 3|4)`, that a new scene begins with."""
    looks = [_look(frame) for frame in frames]
    steps = [before.distance(after) for before, after in zip(looks, looks[1:], strict=False)]
    usual = float(np.median(steps)) if steps else 0.0
    cuts: list[int] = []
    for at in range(1, len(looks)):
        if not _is_cut(looks[max(at - 2, 0) : at], looks[at : at + 2], usual):
            continue
        begin = cuts[-1] if cuts else None
        if begin is not None and at - begin <= _FLASH_FRAMES:
            if not _is_cut(looks[max(begin - 2, 0) : begin], looks[at : at + 2], usual):
                cuts.pop()  # the picture is back
                continue
        cuts.append(at)
    return tuple(cuts)


def _is_cut(before: list[_Look], after: list[_Look], usual: float) -> bool:
    """Two frames on each side are given: a single odd one among them is not a cut."""
    first = [look for look in before if look.structure is not None]
    second = [look for look in after if look.structure is not None]
    pairs = list(product(first, second))
    if not pairs:
        return False
    distance = min(one.distance(other) for one, other in pairs)
    correlation = max(one.correlation(other) for one, other in pairs)
    if distance < _TIMES_USUAL * usual or distance < _LEAST_DISTANCE:
        return False
    if distance >= _DISTANCE and correlation < _CORRELATION:
        return True
    change = min(one.change(other) for one, other in pairs)
    return correlation <= _LEAST_CORRELATION and change >= _LEAST_CHANGE


def _look(frame: NDArray[np.uint8]) -> _Look:
    resized = cv2.resize(frame, (_COLOUR_PX, _COLOUR_PX), interpolation=cv2.INTER_AREA)
    picture = np.ascontiguousarray(resized[..., :3])
    if frame.shape[2] == 4:
        picture = (picture * (resized[..., 3:] / np.float32(255))).astype(np.uint8)
    small = cv2.resize(picture, (_SMALL_PX, _SMALL_PX), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    ranges = [0, 256, 64, 192, 64, 192]  # of a and b, what pictures have
    counts = cv2.calcHist([lab], [0, 1, 2], None, [_BINS] * 3, ranges).ravel()
    varied = small - small.mean(axis=(0, 1), dtype=np.float32)
    structure = varied / np.linalg.norm(varied) if varied.std() >= _FLAT else None
    colours = np.sqrt(counts / max(float(counts.sum()), 1.0))
    return _Look(colours.astype(np.float32), small.astype(np.float32), structure)


def scenes(used: Sequence[int], cuts: Sequence[int], within: Span) -> list[Span]:
    """Parts of the source without these cuts, the longest first.

    `used` are the source's frames among which the cuts were found. Where in between a cut lies is
    not known, so a scene goes from the first frame seen of it to the last; the last scene goes on.
    """
    bounds = [0, *cuts, len(used)]
    lengths: dict[Span, int] = {}
    for begin, end in pairwise(bounds):
        last = within.last if end == len(used) else used[end - 1]
        lengths[Span(used[begin], last)] = end - begin
    return sorted(lengths, key=lambda scene: -lengths[scene])


def cut_warning(places: Sequence[str], used: tuple[str, str] | None) -> ClipWarning:
    """`places` are those of the cuts; `used` the first and last frame used, None if all were."""
    where = " and ".join([", ".join(places[:-1]), places[-1]] if places[1:] else places)
    if used:
        told = f"only one is used, from {used[0]} to {used[1]}. Send `start` to choose another."
    else:
        told = "frames of more than one are used, because none is long enough alone."
    return ClipWarning("scene_cut", f"The clip changes to another scene at {where}: {told}")
