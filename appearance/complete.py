"""Gives colours to the texels that no frame shows: from the other side of the body, or from around.

Called by bake.py with colours without light (light.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from appearance import OnProgress
from appearance.fill import conductances, spread, spread_sharply
from appearance.mirror import Mirror, find_mirror, opposite
from appearance.observe import Observed
from appearance.texels import Texels
from meshes.normals import weld
from meshes.sequence import MeshSequence

_HELD = 20.0
"""How firmly a vertex keeps a colour that is surely seen; colours flow along edges with up to 2."""
_ASKED = 0.1
"""This part of the seen texels is mirrored, too, to see whether both sides have equal colours."""
_PAIRS = 1500
_DIFFERENT = 1.3
"""Sides whose colours differ by more, compared with any two points, are not mirrored."""
_LEAK = 0.03
_LARGEST_STEP, _LARGEST_CORRECTION = 0.3, 0.1
"""At a seam between seen and mirrored colours: not more, or corrections turn them black."""

Colors = NDArray[np.float32]


@dataclass(frozen=True)
class _Surface:
    """The mesh's vertices, welded: the texels' places among them, and how colours flow."""

    to_texels: csr_array
    flows: csr_array

    def at_vertices(
        self, colors: Colors, weights: Colors
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean colours `(V, 3)` of texels' `(N, 3)`, and how firmly they hold `(V,)`."""
        total = self.to_texels.T @ weights
        most = self.to_texels.T @ np.ones_like(weights)
        means = self.to_texels.T @ (colors * weights[:, None]) / np.maximum(total, 1e-9)[:, None]
        held = np.clip(total / np.maximum(most, 1e-9), 0, 1) ** 2 * _HELD
        return means.astype(np.float64), held.astype(np.float64)


def complete(
    meshes: MeshSequence, texels: Texels, observed: Observed, report: OnProgress
) -> tuple[Colors, Colors]:
    """The colours of all texels `(N, 3)`, and how far each is mirrored `(N,)`, 0 to 1."""
    welded = weld(meshes.vertices[0])
    vertices = meshes.vertices[:, np.unique(welded, return_index=True)[1]]
    surface = _Surface(
        texels.operator(welded=welded),
        conductances(vertices[[0, len(vertices) // 2]], welded[meshes.faces]),
    )
    mirror = find_mirror(vertices, lambda done: report(0.2 * done))
    colors, mirrored = observed.colors, np.zeros(len(texels), np.float32)
    if mirror is not None:
        other, share = _other_side(
            meshes, texels, observed, mirror, lambda done: report(0.2 + 0.3 * done)
        )
        if share.any():
            mirrored = share * (1 - observed.seen)
            other = _without_seam(
                surface, observed, other, share, lambda done: report(0.5 + 0.1 * done)
            )
            colors = _mean(observed.colors, observed.seen, other, mirrored)
    known = observed.seen + mirrored
    held = surface.at_vertices(colors, known)
    filled = spread_sharply(surface.flows, *held, lambda done: report(0.6 + 0.4 * done))
    around = surface.to_texels @ filled.astype(np.float32)
    return _mean(colors, known, around, 1 - known), mirrored


def _other_side(
    meshes: MeshSequence, texels: Texels, observed: Observed, mirror: Mirror, report: OnProgress
) -> tuple[Colors, Colors]:
    """The colours opposite `(N, 3)`, and how good they are `(N,)`: 0 if the sides differ."""
    random = np.random.default_rng(0)
    is_asked = (observed.seen < 1) | (random.random(len(texels)) < _ASKED)
    asked = np.flatnonzero(is_asked)
    other = opposite(meshes, mirror, texels, observed.seen, asked, report)
    colors = observed.colors[other.source]
    both = np.flatnonzero((observed.seen > 0.9) & (other.share > 0.5))
    if len(both) > _PAIRS:
        own = observed.colors[both]
        differ = np.abs(colors[both] - own).mean()
        if differ > _DIFFERENT * np.abs(own - random.permutation(own)).mean():
            return colors, np.zeros(len(texels), np.float32)
    return colors, other.share


def _without_seam(
    surface: _Surface, observed: Observed, other: Colors, share: Colors, report: OnProgress
) -> Colors:
    """Mirrored colours, moved towards the seen ones where both meet, less with every edge."""
    step = np.clip(observed.colors - other, -_LARGEST_STEP, _LARGEST_STEP)
    steps, held = surface.at_vertices(step, observed.seen * share)
    steps *= (held / (held + _LEAK))[:, None]
    found = spread(surface.flows, steps, held + _LEAK, report).astype(np.float32)
    largest = np.float32(_LARGEST_CORRECTION)
    return np.asarray(other + np.clip(surface.to_texels @ found, -largest, largest), np.float32)


def _mean(first: Colors, weight: Colors, second: Colors, other_weight: Colors) -> Colors:
    """Colours `(N, 3)` with weights `(N,)`, mixed in place: a large texture has many texels."""
    total = np.maximum(weight + other_weight, 1e-6)
    mixed = second - first
    mixed *= (other_weight / total)[:, None]
    mixed += first
    return np.asarray(mixed, np.float32)
