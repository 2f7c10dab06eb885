"""Segments a moving subject in front of a busy background, without a trained model: a guess.

A score adds up motion relative to the camera, difference to the camera-compensated median image,
and colours that the frame's border lacks. GrabCut (Rother et al. 2004) makes a mask of the score in
the clearest frame, and of that mask, moved along the flow, in all others. Measures the contrast of
the result; checks.py, decides whether it suffices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from subject.motion import Scene, measure_scene, residual_motion
from subject.plain_background import border_strip, fill_pinholes, keep_large_parts, to_lab
from video.fields import Field, Mask, warp

_MEDIAN_OF = 11
"""Frames in the median image, spread over the clip."""
_SHARES = (0.40, 0.25, 0.35)
"""Of motion, difference and colour in the score."""

_MOVES_AS_A_WHOLE_PX = 0.8
_STANDS_STILL = 0.25

Statistic = Callable[[Field], np.floating]


@dataclass(frozen=True)
class MotionSegmentation:
    """Masks `(H, W)` at the images' size.

    `contrast` is the mean score (0..1) inside the masks minus that outside; `motion_px` the
    speed of the fastest tenth of the subject relative to the camera, where both flows agree, in
    pixels of `flow_size` per frame: 1/256 of the picture's longer side, less in very wide ones.
    """

    masks: list[Mask]
    contrast: float
    motion_px: float


def segment_by_motion(
    images: list[NDArray[np.uint8]], tick: Callable[[int], None]
) -> MotionSegmentation:
    """Masks of what moves. `images` are uint8 RGB `(H, W, 3)`; `tick` gets the frames done."""
    count = len(images)
    scene = measure_scene(images, lambda t: tick(t // 3))
    motion = residual_motion(scene)
    raw, signs = _score(scene, motion, lambda t: tick((count + t) // 3))
    scores = _smooth_along_flow(raw, scene)
    masks = _propagate(scene, scores, motion, signs, lambda t: tick((2 * count + t) // 3))
    size, how = images[0].shape[1::-1], cv2.INTER_CUBIC
    full = [cv2.resize(np.float32(mask), size, interpolation=how) > 0.5 for mask in masks]
    contrasts = _inside_minus_outside(scores, masks, np.mean, np.mean)
    speeds = _inside_minus_outside(motion, masks, partial(np.percentile, q=90), np.median)
    return MotionSegmentation(full, float(np.mean(contrasts)), float(np.median(speeds)))


# --- how much each pixel looks like the subject


def _score(
    scene: Scene, motion: list[Field], tick: Callable[[int], None]
) -> tuple[list[Field], list[Field]]:
    """How much each pixel looks like the subject, and how much moves near it; both 0..1.

    A colour without motion near it counts for less: many backgrounds hold bright objects.
    """
    height, width = scene.grid.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j] / 0.84
    centre = (0.35 + 0.65 * np.exp(-(x**2 + y**2))).astype(np.float32)
    trust = min(1.0, float(np.mean([np.percentile(speed, 97) for speed in motion])))
    out, moving = [], []
    for t, speed in enumerate(motion):
        moves = trust * _stretch(cv2.GaussianBlur(speed, (0, 0), 2), 50)
        differs = _stretch(cv2.GaussianBlur(_difference(scene, t), (0, 0), 1.5), 50)
        signs = np.minimum(2 * cv2.GaussianBlur(np.maximum(moves, differs), (0, 0), 4), 1)
        colour = _stretch(_missing_in_border(scene.images[t]), 30) * (0.4 + 0.6 * signs)
        parts = zip(_SHARES, (moves, differs, colour), strict=True)
        out.append(centre * np.sum([share * part for share, part in parts], axis=0))
        moving.append(signs)
        tick(t)
    return out, moving


def _stretch(field: Field, low: float) -> Field:
    """0 at the percentile `low`, 1 at the 97th."""
    bottom, top = np.percentile(field, (low, 97))
    return np.asarray(np.clip((field - bottom) / max(float(top - bottom), 1e-6), 0, 1))


def _difference(scene: Scene, t: int) -> Field:
    """Distance in Lab to the median of the other frames, moved to where the camera is at `t`."""
    count = len(scene.images)
    height, width = scene.grid.shape[:2]
    position = list(accumulate(scene.camera, lambda at, step: step @ at, initial=np.eye(3)))
    others = []
    for s in range(0, count, max(1, count // _MEDIAN_OF)):
        if s != t:
            move = (position[t] @ np.linalg.inv(position[s]))[:2]
            image, border = scene.images[s], cv2.BORDER_REPLICATE
            others.append(cv2.warpAffine(image, move, (width, height), borderMode=border))
    median = np.median(np.stack(others), axis=0).astype(np.uint8)
    return np.asarray(np.linalg.norm(to_lab(scene.images[t]) - to_lab(median), axis=2))


def _missing_in_border(image: NDArray[np.uint8]) -> Field:
    """1 where a colour does not occur in the border strip, 0 where it is as common there."""
    bins = (cv2.cvtColor(image, cv2.COLOR_RGB2LAB) // 16).astype(np.int64)
    code = (bins[..., 0] * 16 + bins[..., 1]) * 16 + bins[..., 2]
    strip = border_strip(code.shape, 0.05)

    def histogram(codes: NDArray[np.int64]) -> Field:
        counts = np.bincount(codes.ravel(), minlength=4096).astype(np.float32).reshape(16, 16, 16)
        return np.asarray(gaussian_filter(counts, 0.7).ravel() / codes.size)

    ratio = histogram(code[strip])[code] / (histogram(code)[code] + 1e-6)
    return np.asarray(cv2.GaussianBlur(1 - np.clip(ratio, 0, 1), (0, 0), 2.5))


def _smooth_along_flow(scores: list[Field], scene: Scene) -> list[Field]:
    """Half of each score is the previous frame's, moved along the flow."""
    out = [scores[0]]
    for score, back in zip(scores[1:], scene.backward, strict=True):
        out.append(0.5 * score + 0.5 * warp(out[-1], scene.grid + back))
    return out


# --- masks


def _propagate(
    scene: Scene,
    scores: list[Field],
    motion: list[Field],
    signs: list[Field],
    tick: Callable[[int], None],
) -> list[Mask]:
    """GrabCut in the clearest frame, then outwards to both ends of the clip.

    If the subject moves as a whole, pixels that stand still are excluded, whatever their colour.
    """
    count = len(scores)
    clarity = [np.percentile(score, 97) - np.percentile(score, 60) for score in scores]
    first = int(np.argmax(clarity))
    masks = {first: _seed(scores[first], scene.images[first])}
    speeds = motion[first][masks[first]]
    whole = len(speeds) > 0 and float(np.median(speeds)) > _MOVES_AS_A_WHOLE_PX
    stands = [(field < _STANDS_STILL) & whole for field in signs]
    masks[first] = _clean(masks[first] & ~stands[first])
    for t in [*range(first + 1, count), *range(first - 1, -1, -1)]:
        neighbour, flow = (t - 1, scene.backward[t - 1]) if t > first else (t + 1, scene.forward[t])
        masks[t] = _track_mask(masks[neighbour], scene, flow, scores[t], stands[t], t)
        tick(len(masks))
    return [masks[t] for t in range(count)]


def _seed(score: Field, image: NDArray[np.uint8]) -> Mask:
    """From the score: the top 4 % are subject; low scores (Otsu) and the border are not."""
    grey = np.clip(score * 255, 0, 255).astype(np.uint8)
    threshold = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)[0] / 255
    trimap = np.full(score.shape, cv2.GC_PR_BGD, np.uint8)
    trimap[score > threshold] = cv2.GC_PR_FGD
    trimap[score > np.percentile(score, 96)] = cv2.GC_FGD
    trimap[score < 0.35 * threshold] = cv2.GC_BGD
    trimap[border_strip(score.shape, 0.015)] = cv2.GC_BGD
    return _clean(_grab_cut(image, trimap, 5))


def _track_mask(mask: Mask, scene: Scene, flow: Field, score: Field, stands: Mask, t: int) -> Mask:
    """The neighbour's mask moved along `flow` (from frame `t` to it), cut again near its edge."""
    moved = warp(mask.astype(np.float32), scene.grid + flow) > 0.5
    trimap = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    trimap[_dilate(moved, 6) & (score >= 0.08)] = cv2.GC_PR_BGD
    trimap[moved] = cv2.GC_PR_FGD
    trimap[_dilate(moved, 10) & (score > np.percentile(score, 93))] = cv2.GC_PR_FGD
    trimap[~_dilate(~moved, 4)] = cv2.GC_FGD
    trimap[stands] = cv2.GC_BGD
    return _clean(_grab_cut(scene.images[t], trimap, 2))


def _grab_cut(image: NDArray[np.uint8], trimap: NDArray[np.uint8], rounds: int) -> Mask:
    """Empty unless subject and background have enough pixels for five Gaussians each."""
    front = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    if not 32 <= np.count_nonzero(front) <= front.size - 32:
        return np.zeros(front.shape, bool)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, trimap, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    return np.asarray((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD))


def _clean(mask: Mask) -> Mask:
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    return fill_pinholes(keep_large_parts(opened, 0.12), 0.004)


def _dilate(mask: Mask, radius: int) -> Mask:
    side = 2 * radius + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disk) > 0)


# --- confidence


def _inside_minus_outside(
    fields: list[Field], masks: list[Mask], of_inside: Statistic, of_outside: Statistic
) -> list[float]:
    """How much each frame's values differ inside and outside its mask; 0 if one is empty."""
    return [
        float(of_inside(field[mask]) - of_outside(field[~mask])) if 0 < mask.mean() < 1 else 0.0
        for field, mask in zip(fields, masks, strict=True)
    ]
