"""Renders examples/dancing_sprout.mp4: a toy figure in a striped jumper that dances in a loop.

The figure, its dance and its colours are here; raymarcher.py draws it. 31 frames, so that a job
uses all of them and the mesh loops like the clip; limbs stay beside the body and move in the image
plane, because the CPU pipeline sees outlines only. The same pixels on every run:

    python -m examples.make_dancing_sprout        # some five minutes of one core
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path

import numpy as np

from examples.raymarcher import (
    Array,
    Capsule,
    Ellipsoid,
    Picture,
    Shape,
    Toy,
    encode,
    linear,
    mix,
    render,
    step,
    vector,
)

CLIP = Path(__file__).with_name("dancing_sprout.mp4")
FRAMES = 31
FPS = 15

SKIN, BLUSH, MOUTH, TONGUE = linear("F58A4E"), linear("F0555A"), linear("7B1B33"), linear("F27A82")
STRIPE_LIGHT, STRIPE_DARK, TRIM = linear("5FC3BE"), linear("17566B"), linear("0F3B52")
TROUSERS, WOOL, SOLE = linear("23395B"), linear("E0405F"), linear("7A1F3D")
LEAF, VEIN, STEM = linear("5DB34A"), linear("3B8A3A"), linear("3F7F36")
INK, SPARK = linear("231A2B"), linear("FFFFFF")
PLAIN = {"trousers": TROUSERS, "wool": WOOL, "cuff": TRIM, "stem": STEM, "lid": INK}


# --- the dance


def pose(moment: float) -> list[Shape]:
    """The figure at `moment` 0..1 of the loop: four beats, one step to each side.

    Attached parts follow with a delay: head after hips, forearm after arm, leaves after head.
    """
    phase = 2 * np.pi * moment
    dip = 0.5 - 0.5 * np.cos(4 * phase)
    squash = 1 - 0.07 * (0.5 - 0.5 * np.cos(4 * phase - 0.5))
    plump = 1 / np.sqrt(squash)
    hips = vector(0.15 * np.sin(phase), 0.60 - 0.055 * dip)
    lean = _turned(-0.13 * np.sin(phase - 0.35), 0.16 * np.sin(phase))
    nod = _turned(0.12 * np.sin(phase - 0.9), 0.22 * np.sin(phase - 0.3))

    chest = hips + vector(0, 0.13 * squash) @ lean
    crown = chest + vector(0, 0.50 * squash) @ lean
    belly_radii = vector(0.45 * plump, 0.46 * squash, 0.40 * plump)
    head_radii = vector(0.41 * plump, 0.38 * squash, 0.38)
    figure: list[Shape] = [
        Ellipsoid("body", chest, axes=lean, radii=belly_radii),
        Ellipsoid("body", crown, melt=0.20, axes=nod, radii=head_radii),
    ]
    for side in (-1, 1):
        figure += _leg(side, hips, phase)
        figure += _arm(side, chest + vector(side * 0.36, 0.23 * squash) @ lean, phase)
        figure += _eye(side, crown, nod, squash, moment)
    return figure + _sprout(crown + vector(0, 0.35 * squash) @ nod, phase)


def _turned(roll: float, yaw: float = 0.0) -> Array:
    """Rows are the axes of a frame turned by `roll` around Z, then by `yaw` around Y."""
    c, s, cy, sy = np.cos(roll), np.sin(roll), np.cos(yaw), np.sin(yaw)
    around_z = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    around_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    return np.asarray(around_z @ around_y, np.float32)


def _towards(angle: float, side: int) -> Array:
    """Unit vector `angle` radians above the horizontal, to the right (side 1) or left (-1)."""
    return vector(side * np.cos(angle), np.sin(angle))


def _limb(paint: str, a: Array, b: Array, ra: float, rb: float, melt: float = 0.0) -> Shape:
    return Capsule(paint, a, melt, end=b, start_radius=ra, end_radius=rb)


def _leg(side: int, hips: Array, phase: float) -> list[Shape]:
    """The leg without weight is lifted and moved a little outwards."""
    lift = max(0.0, -side * np.sin(phase - 0.15)) ** 1.5
    heel = vector(side * (0.33 + 0.10 * lift), 0.12 + 0.13 * lift, 0.02)
    hip = hips + vector(side * 0.22, -0.13)
    knee = (hip + heel) / 2 + vector(side * 0.05, 0.02, 0.05)
    boot = _turned(-side * 0.35 * lift, side * 0.55)
    toe = heel + vector(0, -0.03, 0.09) @ boot
    return [
        _limb("trousers", hip, knee, 0.165, 0.13, melt=0.08),
        _limb("trousers", knee, heel + vector(0, 0.08), 0.13, 0.11, melt=0.03),
        _limb("wool", heel + vector(0, 0.10), heel, 0.13, 0.12),
        Ellipsoid("foot", toe, 0.05, 0.3, axes=boot, radii=vector(0.135, 0.10, 0.20)),
    ]


def _arm(side: int, shoulder: Array, phase: float) -> list[Shape]:
    """One arm up while the other is down; the forearm waves on every beat."""
    upper = 0.12 + 0.58 * side * np.sin(phase + 0.15) + 0.08 * np.sin(4 * phase)
    fore = upper + 0.28 + 0.46 * side * np.sin(phase - 0.45) + 0.14 * np.sin(4 * phase - 0.9)
    ahead = _towards(fore, side)
    elbow = shoulder + 0.31 * _towards(upper, side)
    wrist = elbow + 0.23 * ahead
    palm = wrist + 0.12 * ahead
    thumb = palm + 0.14 * _towards(fore + 1.15, side)
    return [
        _limb("sleeve", shoulder, elbow, 0.135, 0.112, melt=0.09),
        _limb("sleeve", elbow, wrist, 0.112, 0.105, melt=0.03),
        _limb("cuff", wrist, wrist + 0.03 * ahead, 0.122, 0.122, melt=0.01),
        _limb("wool", palm, palm + 0.05 * ahead, 0.132, 0.122, melt=0.02),
        _limb("wool", palm, thumb, 0.06, 0.05, melt=0.05),
    ]


def _eye(side: int, crown: Array, nod: Array, squash: float, moment: float) -> list[Shape]:
    """Glossy, and closed once for a moment in each loop."""
    shut = float(np.exp(-(((moment - 0.62) / 0.03) ** 2)))
    at = crown + vector(side * 0.155, 0.035 * squash, 0.345) @ nod
    radii = vector(0.061, 0.088 * squash * (1 - 0.82 * shut), 0.045)
    paint, gloss = ("lid", 0.0) if shut > 0.3 else ("eye", 0.8)
    return [Ellipsoid(paint, at, gloss=gloss, axes=nod, radii=radii)]


def _sprout(root: Array, phase: float) -> list[Shape]:
    """Stem and two leaves, which follow the head with a delay."""
    whip = 0.30 * np.sin(phase - 1.7) + 0.10 * np.sin(4 * phase - 1.2)
    flap = 0.42 + 0.16 * np.sin(4 * phase - 2.0)
    tip = root + 0.17 * _towards(np.pi / 2 - whip, 1)
    sprout = [_limb("stem", root, tip, 0.045, 0.036, melt=0.05)]
    for side, size in ((-1, 0.85), (1, 1.0)):
        axes = _turned(side * flap - whip, -0.35 * side)
        centre = tip + side * size * 0.17 * axes[0] + vector(0, 0, 0.02)
        radii = size * vector(0.20, 0.105, 0.055)
        sprout.append(Ellipsoid("leaf", centre, melt=0.02, axes=axes, radii=radii))
    return sprout


# --- the clothes


def paint(toy: Toy, points: Array) -> tuple[Array, Array]:
    """Colour `(N, 3)` and gloss `(N,)`, from the nearest shape in that shape's own coordinates."""
    nearest = np.argmin([shape.distance(points) for shape in toy], axis=0)
    colour = np.zeros_like(points)
    for index in np.unique(nearest):
        mine = nearest == index
        colour[mine] = _paint_shape(toy, toy[index], points[mine])
    return colour, np.array([shape.gloss for shape in toy], np.float32)[nearest]


def _paint_shape(toy: Toy, shape: Shape, points: Array) -> Array:
    if isinstance(shape, Capsule):
        if shape.paint != "sleeve":
            return PLAIN[shape.paint]
        length = float(np.linalg.norm(shape.end - shape.at))
        elbow = 0.0 if shape.melt > 0.05 else 0.31
        return _stripes(elbow + length * shape.along(points), 0.13)
    assert isinstance(shape, Ellipsoid)
    x, y, _ = shape.local(points).T
    if shape.paint == "body":
        return _paint_body(toy, points)
    if shape.paint == "foot":
        return mix(WOOL, SOLE, step(-0.45 - y, 0.12))
    if shape.paint == "leaf":
        return mix(LEAF, VEIN, step(0.11 - np.abs(y), 0.11) * step(0.8 - np.abs(x), 0.06))
    if shape.paint == "eye":
        return mix(INK, SPARK, step(0.33 - np.hypot(x + 0.30, y - 0.40), 0.1))
    return PLAIN[shape.paint]


def _stripes(x: Array, period: float) -> Array:
    return mix(STRIPE_LIGHT, STRIPE_DARK, step(np.cos(2 * np.pi * x / period), 0.35))


def _paint_body(toy: Toy, points: Array) -> Array:
    """Trousers, jumper, collar and face, from below upwards."""
    belly, head = (shape for shape in toy if shape.paint == "body")
    assert isinstance(belly, Ellipsoid) and isinstance(head, Ellipsoid)
    y = belly.local(points)[:, 1]
    colour = _paint_face(head.local(points))
    colour = mix(colour, _stripes(0.46 * y + 0.03, 0.17), step(0.55 - y, 0.02))
    colour = mix(colour, TRIM, step(0.055 - np.abs(y - 0.56), 0.02))
    return mix(colour, TROUSERS, step(-0.62 - y, 0.02))


def _paint_face(q: Array) -> Array:
    """Cheeks and an open smile; `q` `(N, 3)` is in units of the head's radii, +Z in front."""
    x, y, front = q[:, 0], q[:, 1], step(q[:, 2] - 0.2, 0.1)
    cheek = np.exp(-(((np.abs(x) - 0.60) / 0.13) ** 2) - ((y + 0.16) / 0.09) ** 2)
    colour = mix(SKIN, BLUSH, 0.8 * cheek * front)
    lip = -0.14 + 0.35 * x**2
    smile = step(0.225 - np.hypot(x, 0.95 * (y - lip)), 0.03) * step(lip - y, 0.03) * front
    tongue = smile * step(0.15 - np.hypot(x, 0.9 * (y + 0.37)), 0.03)
    return mix(mix(colour, MOUTH, smile), TONGUE, tongue)


def frame(index: int) -> Picture:
    """One picture of the loop."""
    return render(pose(index / FRAMES), paint)


def main() -> None:
    """Render every frame and write the clip."""
    parser = argparse.ArgumentParser(description="Render the example clip.")
    parser.add_argument("--out", type=Path, default=CLIP)
    out = parser.parse_args().out
    frames = []
    with multiprocessing.Pool() as pool:
        for picture in pool.imap(frame, range(FRAMES)):
            frames.append(picture)
            print(f"\rframe {len(frames)} of {FRAMES}", end="", flush=True)
    encode(frames, FPS, out)
    print(f"\n{out} {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
