"""A small ray marcher for smoothly joined capsules and ellipsoids.

Holds distance fields, light, camera and video encoding; make_dancing_sprout.py defines the figure.
World: +X right, +Y up, +Z towards the camera, the floor at y = 0, a figure about 2 units tall.
Colours are linear RGB.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Picture = NDArray[np.uint8]

SIDE_PX = 512
VIEW_HEIGHT = 2.87
VIEW_CENTRE_Y = 1.03
CAMERA = np.array([0.0, 1.12, 9.0], np.float32)
NEAREST, FARTHEST = 7.9, 10.2
TO_LIGHT = np.array([-0.451, 0.621, 0.641], np.float32)


def linear(code: str) -> Array:
    """Linear RGB `(3,)` of an sRGB colour written as six hex digits."""
    return (np.array(list(bytes.fromhex(code)), np.float32) / 255) ** 2.2


KEY, SKY, BOUNCE = linear("FFF3E2"), linear("E9F0FF"), linear("FFE3C8")
BACKDROP_TOP, BACKDROP_BOTTOM = linear("F7F4EE"), linear("EAE4DA")


@dataclass(frozen=True)
class Shape:
    """What all shapes share: `paint` names the colour, `at` is the centre or first end.

    `melt` is the size of the smooth joint with the shapes before it, in world units; `gloss` 0..1.
    """

    paint: str
    at: Array
    melt: float = 0.0
    gloss: float = 0.04

    def distance(self, points: Array) -> Array:
        """Signed distance `(N,)` of points `(N, 3)`."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Capsule(Shape):
    """From `at` to `end`, its radius going from `start_radius` to `end_radius`."""

    end: Array
    start_radius: float
    end_radius: float

    def along(self, points: Array) -> Array:
        """Where points lie between the ends, 0..1 `(N,)`."""
        bone = self.end - self.at
        return np.clip((points - self.at) @ bone / (bone @ bone), 0, 1)

    def distance(self, points: Array) -> Array:
        """To the tapered capsule; exact if both radii are equal."""
        h = self.along(points)
        spine = self.at + h[:, None] * (self.end - self.at)
        radius = self.start_radius + (self.end_radius - self.start_radius) * h
        return lengths(points - spine) - radius


@dataclass(frozen=True, kw_only=True)
class Ellipsoid(Shape):
    """Around `at`, with half sizes `radii` along its own `axes`, the rows of a rotation."""

    axes: Array
    radii: Array

    def local(self, points: Array) -> Array:
        """Points `(N, 3)` from the centre, along the ellipsoid's axes, in units of its radii."""
        inside: Array = ((points - self.at) @ self.axes.T) / self.radii
        return inside

    def distance(self, points: Array) -> Array:
        """First-order approximation, which is enough for ray marching."""
        q = self.local(points)
        k = lengths(q)
        return k * (k - 1) / np.maximum(lengths(q / self.radii), 1e-6)


Toy = Sequence[Shape]
Painter = Callable[[Toy, Array], tuple[Array, Array]]
"""Colour `(N, 3)` and gloss `(N,)` of points `(N, 3)` on the toy."""


def vector(x: float, y: float, z: float = 0.0) -> Array:
    """A point or direction `(3,)`."""
    return np.array([x, y, z], np.float32)


def lengths(vectors: Array) -> Array:
    """Of each row, `(N,)`."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


def step(x: Array, width: float) -> Array:
    """0 for negative x, 1 for positive, soft across `width`."""
    t: Array = np.clip(x / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def mix(under: Array, over: Array, amount: Array) -> Array:
    """`over` laid on `under`, `amount` 0..1 `(N,)`."""
    return under + (over - under) * amount[:, None]


def render(toy: Toy, paint: Painter) -> Picture:
    """One frame `(H, W, 3)` RGB: a ray for each pixel, then nine for each pixel on an edge."""
    rows, columns = np.mgrid[0:SIDE_PX, 0:SIDE_PX] + 0.5
    picture = _backdrop(toy, columns.ravel(), rows.ravel()).reshape(SIDE_PX, SIDE_PX, 3)
    y, x = np.nonzero(_neighbourhood(toy))
    picture[y, x] = _trace(toy, paint, x + 0.5, y + 0.5)

    tones = picture ** (1 / 2.2)
    contrast = cv2.dilate(tones, np.ones((3, 3))) - cv2.erode(tones, np.ones((3, 3)))
    y, x = np.nonzero(contrast.max(axis=2) > 0.1)
    dx, dy = (np.mgrid[0:3, 0:3].reshape(2, 9, 1) + 0.5) / 3
    samples = _trace(toy, paint, (x + dx).ravel(), (y + dy).ravel()).reshape(9, -1, 3)
    picture[y, x] = np.clip(samples, 0, 1).mean(axis=0)
    return np.asarray(np.rint(255 * np.clip(picture, 0, 1) ** (1 / 2.2)), np.uint8)


def encode(frames: Sequence[Picture], fps: int, path: Path) -> None:
    """H.264 in mp4, 4:2:0, index in front, colours tagged. Raises CalledProcessError."""
    tags = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{SIDE_PX}x{SIDE_PX}", "-r", str(fps),
        "-i", "-", "-vf", f"scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{tags}",
        "-c:v", "libx264", "-preset", "veryslow", "-crf", "16", "-threads", "1",
        "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1",
        "-movflags", "+faststart", str(path),
    ]  # fmt: skip
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)


# --- the distance field


def _distance(toy: Toy, points: Array) -> Array:
    """Signed distance `(N,)` to the whole toy; the polynomial smooth minimum where shapes melt."""
    total = toy[0].distance(points)
    for shape in toy[1:]:
        own = shape.distance(points)
        nearer = np.minimum(total, own)
        if shape.melt:
            nearer -= np.maximum(shape.melt - np.abs(total - own), 0) ** 2 / (4 * shape.melt)
        total = nearer
    return total


def _march(toy: Toy, rays: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Follow unit rays `(N, 3)` from the camera; where they end `(N, 3)`, and which have hit."""
    depth = np.full(len(rays), NEAREST, np.float32)
    hit = np.zeros(len(rays), bool)
    active = np.arange(len(rays))
    for _ in range(48):
        gap = _distance(toy, CAMERA + depth[active, None] * rays[active])
        depth[active] += 0.9 * gap
        hit[active[gap < 1e-3]] = True
        active = active[(gap >= 1e-3) & (depth[active] < FARTHEST)]
        if not len(active):
            break
    return CAMERA + depth[:, None] * rays, hit


def _normals(toy: Toy, points: Array) -> Array:
    """The field's gradient, by four taps at the corners of a tetrahedron."""
    total = np.zeros_like(points)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        tap = vector(*corner)
        total += tap * _distance(toy, points + 2e-3 * tap)[:, None]
    return total / np.maximum(lengths(total), 1e-9)[:, None]


# --- light


def _shade(toy: Toy, paint: Painter, points: Array, rays: Array) -> Array:
    """Linear colour `(N, 3)`: a large lamp, sky and bounce light, occlusion, a rim light."""
    normal = _normals(toy, points)
    colour, gloss = paint(toy, points)
    lamp = np.clip(0.25 + 0.75 * (normal @ TO_LIGHT), 0, 1) * _lamp_seen(toy, points, normal)
    upward = (0.5 + 0.5 * normal[:, 1])[:, None]
    ambient = 0.62 * upward * SKY + 0.45 * (1 - upward) * BOUNCE
    rim = (1 - np.clip(-np.einsum("ij,ij->i", normal, rays), 0, 1)) ** 3
    reach = _openness(toy, points, normal) * (1 + 0.3 * rim)
    lit = colour * (0.72 * lamp[:, None] * KEY + reach[:, None] * ambient)

    half = TO_LIGHT - rays
    half /= lengths(half)[:, None]
    shine = np.clip(np.einsum("ij,ij->i", normal, half), 0, 1) ** 40
    shone: Array = lit + (0.5 * gloss * shine)[:, None]
    return shone


def _lamp_seen(toy: Toy, points: Array, normal: Array) -> Array:
    """Visible share of the lamp, 0.35..1, from the smallest gap on the way to it."""
    seen: Array = np.ones(len(points), np.float32)
    start = points + 0.02 * normal
    for far in (0.04, 0.08, 0.14, 0.22, 0.32, 0.45, 0.6):
        gap = _distance(toy, start + far * TO_LIGHT)
        seen = np.minimum(seen, np.clip(0.5 + 2.2 * gap / far, 0, 1))
    return 0.35 + 0.65 * seen * seen * (3 - 2 * seen)


def _openness(toy: Toy, points: Array, normal: Array) -> Array:
    """Ambient light, 0.15..1, from the distance field along the normal."""
    closed = np.zeros(len(points), np.float32)
    for k, far in enumerate((0.03, 0.08, 0.15, 0.24)):
        closed += (far - _distance(toy, points + far * normal)) * 0.72**k
    seen: Array = np.clip(1 - 1.6 * closed, 0.15, 1)
    return seen


# --- camera and background


def _rays(x: Array, y: Array) -> Array:
    """Unit rays `(N, 3)` through picture positions in pixels, y downwards."""
    scale = VIEW_HEIGHT / SIDE_PX
    across, up = (x - SIDE_PX / 2) * scale, VIEW_CENTRE_Y - (y - SIDE_PX / 2) * scale
    rays = np.stack([across, up, np.zeros_like(x)], 1).astype(np.float32) - CAMERA
    return rays / lengths(rays)[:, None]


def _trace(toy: Toy, paint: Painter, x: Array, y: Array) -> Array:
    """Linear colour `(N, 3)` at picture positions in pixels."""
    colour = _backdrop(toy, x, y)
    rays = _rays(x, y)
    points, hit = _march(toy, rays)
    colour[hit] = _shade(toy, paint, points[hit], rays[hit])
    return colour


def _backdrop(toy: Toy, x: Array, y: Array) -> Array:
    """A light background with a faint, soft shadow under each foot."""
    colour = mix(BACKDROP_TOP, BACKDROP_BOTTOM, np.clip(y / SIDE_PX, 0, 1))
    scale = VIEW_HEIGHT / SIDE_PX
    floor_y = SIDE_PX / 2 + VIEW_CENTRE_Y / scale
    shadow = np.zeros_like(x)
    for foot in (shape for shape in toy if shape.paint == "foot"):
        dx, dy = x - (SIDE_PX / 2 + foot.at[0] / scale), y - floor_y
        depth = 0.11 - 0.3 * (foot.at[1] - 0.09)
        shadow += depth * np.exp(-((dx / 46) ** 2) - (dy / 12) ** 2)
    return np.asarray(colour * (1 - shadow)[:, None], np.float32)


def _neighbourhood(toy: Toy) -> NDArray[np.bool_]:
    """Pixels `(H, W)` on or near the toy, from every eighth ray each way."""
    rows, columns = np.mgrid[0:SIDE_PX:8, 0:SIDE_PX:8] + 4.0
    _, hit = _march(toy, _rays(columns.ravel(), rows.ravel()))
    coarse = cv2.dilate(hit.reshape(rows.shape).astype(np.uint8), np.ones((5, 5)))
    return np.asarray(cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_NEAREST) > 0)
