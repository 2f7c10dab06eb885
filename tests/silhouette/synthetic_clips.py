"""Small synthetic clips with known masks, drawn with cv2, and backgrounds for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Masks = NDArray[np.bool_]

_CANVAS_PX = 512


class _Part(NamedTuple):
    """A thick line, or, where `width` is 0, an ellipse that fills the box between its ends."""

    start: tuple[float, float]
    end: tuple[float, float]
    width: float
    ink: tuple[int, int, int]


def walker(
    count: int = 16, side: int = 128, speed: float = 0.0, size: float = 1.0
) -> tuple[Frames, Masks]:
    """A striped body with a nodding head on four swinging legs: RGB frames and masks.

    `speed` is how far it walks per frame, in frame widths; `size` shrinks it.
    """
    pictures, masks = [], []
    for t in range(count):
        colour = np.zeros((_CANVAS_PX, _CANVAS_PX, 3), np.uint8)
        mask = np.zeros((_CANVAS_PX, _CANVAS_PX), np.uint8)
        shift = _CANVAS_PX * (0.5 + speed * (t - (count - 1) / 2))
        for part in _walking(2 * np.pi * t / 16):
            start, end = (
                (round(shift + size * x), round(_CANVAS_PX / 2 + size * y))
                for x, y in (part.start, part.end)
            )
            for target, ink in ((colour, part.ink), (mask, (255,))):
                _draw(target, start, end, round(size * part.width), ink)
        pictures.append(cv2.resize(colour, (side, side), interpolation=cv2.INTER_AREA))
        masks.append(cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) > 127)
    return np.stack(pictures), np.stack(masks)


def _walking(phase: float) -> Iterator[_Part]:
    """The figure at one moment of its step; (0, 0) is the middle of the canvas, y down."""
    for x, red in ((-70, 150), (45, 110)):
        swing = 40 * np.sin(phase)
        yield _Part((x, 40), (x + swing, 175), 30, (red, 60, 40))
        yield _Part((x + 34, 40), (x + 34 - swing, 175), 30, (red - 40, 80, 60))
    yield _Part((-116, -56), (114, 74), 0, (180, 120, 60))
    for x in range(-86, 94, 40):
        yield _Part((x, -31), (x + 16, 44), 0, (90, 50, 120))
    nod = 8 * np.sin(phase)
    yield _Part((94, -16), (139, -96 + nod), 36, (200, 140, 70))
    yield _Part((109, -146 + nod), (189, -81 + nod), 0, (210, 150, 80))


def _draw(
    target: Frames, start: tuple[int, int], end: tuple[int, int], width: int, ink: tuple[int, ...]
) -> None:
    if width:
        cv2.line(target, start, end, ink, width)
        return
    middle = ((start[0] + end[0]) // 2, (start[1] + end[1]) // 2)
    axes = (max(1, (end[0] - start[0]) // 2), max(1, (end[1] - start[1]) // 2))
    cv2.ellipse(target, middle, axes, 0, 0, 360, ink, -1)


def with_alpha(frames: Frames, masks: Masks) -> Frames:
    """RGBA, opaque inside the masks."""
    return np.concatenate([frames, np.uint8(255) * masks[..., None]], axis=3)


def on_background(frames: Frames, masks: Masks, background: Frames) -> Frames:
    """The figure in front of one picture, or of one picture per frame."""
    out: Frames = np.where(masks[..., None], frames, background)
    return out


def plain(side: int, colour: tuple[int, int, int], noise: float = 0.0, seed: int = 0) -> Frames:
    """One colour, a little darker to the right, with grain: `(side, side, 3)`."""
    fall = np.linspace(1.0, 0.94, side)[None, :, None]
    grain = np.random.default_rng(seed).normal(0, noise, (side, side, 1))
    out: Frames = np.clip(np.array(colour) * fall + grain, 0, 255).astype(np.uint8)
    return out


def busy(count: int, side: int, pan: float, seed: int = 0) -> Frames:
    """Clouds of colour, disks and boxes, `(T, side, side, 3)`, moving `pan` pixels a frame."""
    rng = np.random.default_rng(seed)
    width = side + int(np.ceil(abs(pan) * count)) + 4
    clouds = np.full((side, width, 3), 128, np.float32)
    for cells in (4, 8, 16, 32, 64):
        coarse = rng.normal(0, 40 / cells**0.5, (cells, cells, 3)).astype(np.float32)
        clouds += cv2.resize(coarse, (width, side), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(clouds, 0, 255).astype(np.uint8)
    for _ in range(14):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, side))
        ink = [int(channel) for channel in rng.integers(0, 256, 3)]
        reach = int(rng.integers(side // 30, side // 9))
        if rng.random() < 0.5:
            cv2.circle(picture, (x, y), reach, ink, -1)
        else:
            cv2.rectangle(picture, (x - reach, y - reach), (x + reach, y + reach // 2), ink, -1)
    return np.stack([picture[:, round(pan * t) : round(pan * t) + side] for t in range(count)])
