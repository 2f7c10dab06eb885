"""Paints the video's colours onto the mesh: makes its texture."""

from __future__ import annotations

from dataclasses import dataclass

from appearance import OnProgress
from appearance.unwrap import Unwrapped
from meshes.sequence import MeshSequence
from meshes.view import View
from video.clip import Clip


@dataclass(frozen=True)
class Baked:
    """The meshes with a texture, and which parts of its surface have which colours, 0 to 1.

    `seen` in the video, `mirrored` from the other side of the body, `filled` from around it.
    """

    meshes: MeshSequence
    seen: float
    mirrored: float
    filled: float


def bake_texture(
    meshes: MeshSequence,
    clip: Clip,
    view: View,
    unwrapped: Unwrapped,
    size_px: int,
    report: OnProgress,
) -> Baked:
    """The meshes with `unwrapped`'s vertices and a square texture of `size_px`."""
    raise NotImplementedError
