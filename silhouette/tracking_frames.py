"""What the tracker looks at: the subject on a flat grey, its outline, and optical flow between.

Flow is dense inverse search (DIS, Kroeger et al. 2016). On a flat ground that contrasts with the
subject the outline itself is a feature to it. Moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from silhouette.crop import Canvas
from silhouette.outline import Field, Outline, Points, sample
from silhouette.triangulation import Triangles

Grey = NDArray[np.uint8]

_CANVAS_PX = 512
"""The canvas that distances in pixels are given for; see `Footage.scale`."""


@dataclass(frozen=True)
class Footage:
    """One clip for one tracker; `greys` uint8, `alphas` float 0..1, `outlines`, one per frame."""

    greys: list[Grey]
    alphas: list[Field]
    outlines: list[Outline]
    ground: int

    @classmethod
    def of(cls, canvas: Canvas, tick: Callable[[], None]) -> Footage:
        """Lay the subject onto dark or light grey, whichever its median is farther from."""
        plain = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in canvas.images]
        inside = [grey[alpha > 0.5][::16] for grey, alpha in zip(plain, canvas.alphas, strict=True)]
        ground = 235 if np.median(np.concatenate(inside)) < 128 else 20
        greys, outlines = [], []
        for grey, alpha in zip(plain, canvas.alphas, strict=True):
            greys.append((grey * alpha + ground * (1 - alpha)).astype(np.uint8))
            outlines.append(Outline.of(alpha))
            tick()
        return cls(greys, canvas.alphas, outlines, ground)

    def __len__(self) -> int:
        return len(self.greys)

    @property
    def scale(self) -> float:
        """Pixels of this footage per pixel of a canvas of 512."""
        return float(self.greys[0].shape[0] / _CANVAS_PX)

    def overlap(self, points: Points, triangles: Triangles, t: int) -> float:
        """Intersection over union of drawn triangles and the mask of frame `t`; both empty: 1."""
        drawn = np.zeros(self.greys[t].shape, np.uint8)
        for corners in np.round(points[triangles] * 16).astype(np.int32):
            cv2.fillConvexPoly(drawn, corners, 1, shift=4)
        mesh, mask = drawn > 0, self.alphas[t] > 0.5
        union = np.count_nonzero(mesh | mask)
        return float(np.count_nonzero(mesh & mask) / union) if union else 1.0


class Flow:
    """DIS flow both ways, and how well the two agree."""

    def __init__(self, remember: bool = False) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(2)  # a quarter of the size, no variational refinement: nodes lie
        self._dis.setVariationalRefinementIterations(0)  # nine pixels apart; a quarter of the time
        self._known: dict[tuple[int, int], Field] | None = {} if remember else None

    def between(self, footage: Footage, source: int, target: int) -> tuple[Field, Field]:
        """Flow from frame `source` to `target` and back."""
        return self._one(footage, source, target), self._one(footage, target, source)

    def of_pictures(self, one: Grey, two: Grey) -> tuple[Field, Field]:
        """Flow from `one` to `two` and back."""
        return self._dis.calc(one, two, None), self._dis.calc(two, one, None)

    def _one(self, footage: Footage, source: int, target: int) -> Field:
        if self._known is not None and (source, target) in self._known:
            return self._known[source, target]
        flow: Field = self._dis.calc(footage.greys[source], footage.greys[target], None)
        if self._known is not None:
            self._known[source, target] = flow
        return flow


def follow(points: Points, there: Field, back: Field) -> tuple[Points, NDArray[np.float64]]:
    """Where flow carries `points` `(N, 2)`, and by how many pixels the way back misses them."""
    step = sample(there, points).astype(np.float64)
    carried = points + step
    missed = np.linalg.norm(step + sample(back, carried), axis=1)
    return carried, missed
