"""Segments a subject in front of a plain background (a wall, a screen), soft shadows included.

The background is a smooth colour surface fitted to the border of the frame; pixels that differ from
it are the subject. Also measures how plain a background is. Called by plain_clip.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from video.fields import Field, Mask, gradient

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
"""Odd and symmetric: opening with an even kernel moves the mask by a pixel."""
_PLAIN_INLIERS = 0.80
_PLAIN_SPREAD = 4.5
"""Without a limit on the spread, busy backgrounds are taken for plain ones (measured)."""


@dataclass(frozen=True)
class BackgroundModel:
    """The background's colour at every pixel, CIE Lab `(H, W, 3)`, and how well it fits.

    `inliers` is the share of border pixels it explains, `spread` their distance to it in delta E.
    """

    colour: Field
    inliers: float
    spread: float

    @property
    def is_plain(self) -> bool:
        return self.inliers > _PLAIN_INLIERS and self.spread < _PLAIN_SPREAD


def to_lab(image: NDArray[np.uint8]) -> Field:
    """CIE Lab in its own units (L 0..100) from RGB."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def border_strip(shape: tuple[int, ...], share: float) -> Mask:
    """The outer `share` of the frame's shorter side, at least two pixels, as a mask `shape`."""
    depth = max(2, round(share * min(shape)))
    strip = np.ones(shape, bool)
    strip[depth:-depth, depth:-depth] = False
    return strip


def fit_background(image: NDArray[np.uint8]) -> BackgroundModel:
    """Fit a quadratic colour surface to the border strip, in five rounds without outliers."""
    lab = to_lab(image)
    height, width = lab.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width - 0.5, y / height - 0.5
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    strip = border_strip((height, width), 0.04)
    every = max(1, np.count_nonzero(strip) // 5000)
    terms, colours = basis[strip][::every], lab[strip][::every]
    inlier = np.linalg.norm(colours - np.median(colours, axis=0), axis=1) < 25
    surface, spread = np.zeros((6, 3), np.float32), np.inf
    for _ in range(5):
        if np.count_nonzero(inlier) < 20:
            return BackgroundModel(np.zeros_like(lab), 0.0, np.inf)
        surface = np.linalg.lstsq(terms[inlier], colours[inlier], rcond=None)[0]
        error = np.linalg.norm(colours - terms @ surface, axis=1)
        spread = max(1.0, 1.48 * float(np.median(error[inlier])))
        inlier = error < min(max(4.0, 3.5 * spread), 12.0)
    return BackgroundModel((basis @ surface).astype(np.float32), float(inlier.mean()), spread)


def subject_mask(image: NDArray[np.uint8], background: BackgroundModel) -> Mask:
    """The subject's mask, `(H, W)`, from RGB `image`.

    1. background: pixels like the model, or like its shadow, connected to the border;
    2. also holes in the subject that show the background;
    3. parts that differ only slightly from the model are dropped;
    4. mixed pixels at the rim are removed.
    """
    calm = to_lab(cv2.bilateralFilter(image, 5, 20, 3))
    away = calm - background.colour
    departure = np.sqrt((away**2).sum(axis=2))
    slope = gradient(cv2.GaussianBlur(calm[..., 0], (0, 0), 1.2))
    texture = np.hypot(slope[..., 0], slope[..., 1])
    strong = max(14.0, 6 * background.spread)

    chroma = np.hypot(away[..., 1], away[..., 2])
    darker = (away[..., 0] < 0) & (away[..., 0] > -0.40 * background.colour[..., 0])
    soft = (chroma < 5) & (texture < 1.2)
    colourless = (chroma < 1.5) & (texture < 3.0)  # a shadow with a steep edge; fur has more colour
    shadow = darker & (soft | colourless)
    is_background = _reaching_border((departure < max(5.0, 3 * background.spread)) | shadow)
    exact = (departure < max(2.5, 1.7 * background.spread)) & (texture < 1.2) & ~is_background
    is_background |= _background_holes(exact, departure, 0.6 * strong)

    subject = _open(_clear_components(~is_background, departure > strong))
    raw = to_lab(image) - background.colour
    subject = _remove_mixed_rim(subject, np.sqrt((raw**2).sum(axis=2)))
    return fill_pinholes(keep_large_parts(_open(subject), 0.03), 5e-4)


def keep_large_parts(mask: Mask, share: float) -> Mask:
    """Remove the components smaller than `share` of the largest one."""
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    area[0] = 0
    keep = area >= max(share * area.max(), 12)
    return np.asarray(keep[label])


def fill_pinholes(mask: Mask, share: float) -> Mask:
    """Fill holes smaller than `share` of the mask that do not touch the border."""
    inverse = (~mask).astype(np.uint8)
    _, label, stats, _ = cv2.connectedComponentsWithStats(inverse, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < share * np.count_nonzero(mask)
    small[0] = False
    small[_border_labels(label)] = False
    return np.asarray(mask | small[label])


def _border_labels(label: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.unique(np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]]))


def _reaching_border(candidate: Mask) -> Mask:
    count, label = cv2.connectedComponents(candidate.astype(np.uint8), connectivity=4)
    touching = np.zeros(count, bool)
    touching[_border_labels(label)] = True
    touching[0] = False
    return np.asarray(touching[label])


def _background_holes(exact: Mask, departure: Field, sharp: float) -> Mask:
    """Enclosed parts of background: an exact match, not tiny, with a sharp edge all around."""
    mask = exact.astype(np.uint8)
    count, label, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    holes = np.zeros(count, bool)
    for k in range(1, count):
        left, top, width, height, area = stats[k]
        if area < 2e-4 * exact.size:
            continue
        window = np.s_[max(top - 5, 0) : top + height + 5, max(left - 5, 0) : left + width + 5]
        piece = (label[window] == k).astype(np.uint8)
        near, far = (cv2.dilate(piece, np.ones((n, n), np.uint8)) for n in (5, 9))
        rim = departure[window][(far > 0) & (near == 0)]
        holes[k] = len(rim) > 0 and float(np.percentile(rim, 25)) > sharp
    grown: Mask = cv2.dilate(holes[label].astype(np.uint8), _CROSS) > 0
    return grown & (departure < sharp)


def _clear_components(mask: Mask, strong: Mask) -> Mask:
    """Components of which at least a twentieth differs strongly from the background."""
    count, label = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    size = np.bincount(label.ravel(), minlength=count)
    sure = np.bincount(label[strong], minlength=count) > 0.05 * size
    sure[0] = False
    return np.asarray(sure[label])


def _remove_mixed_rim(subject: Mask, departure: Field) -> Mask:
    """Remove rim pixels that are more background than subject, one pixel deep.

    A mixed pixel differs by alpha times the difference of the pure subject next to it. More pixels
    would remove bright rims in front of bright walls (measured: 0.5 IoU points at three pixels).
    """
    pure = cv2.dilate(np.where(subject, departure, 0).astype(np.float32), np.ones((9, 9), np.uint8))
    core = cv2.erode(subject.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.asarray(core | (subject & (departure >= 0.5 * pure)))


def _open(mask: Mask) -> Mask:
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _CROSS) > 0)
