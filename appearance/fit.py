"""Finds where the video was filmed from, from the subject's outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appearance import OnProgress
from meshes.sequence import MeshSequence
from meshes.view import View
from video.clip import Clip


class NotFitted(Exception):
    """There is no view; the message says why, for people."""


@dataclass(frozen=True)
class Fit:
    """The view, and how sure it is.

    `runner_up` is the outline overlap (mean IoU) of the best view from elsewhere, None if there is
    none. `is_ambiguous`: neither outlines nor colours tell it from that one.
    """

    view: View
    runner_up: float | None
    is_ambiguous: bool


def fit_view(meshes: MeshSequence, clip: Clip, report: OnProgress) -> Fit:
    """The view of a clip with alpha, one frame for each timestep. Raises NotFitted."""
    raise NotImplementedError


def first_frame_overlap(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], alpha: NDArray[np.uint8]
) -> float:
    """The best IoU, 0 to 1, of the outline of one mesh `(V, 3)` with one alpha `(H, W)`."""
    raise NotImplementedError
