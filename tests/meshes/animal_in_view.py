"""Meshes with the view that they were filmed from, for tests of the files and the preview."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from meshes.camera import ViewDirection, fit_cameras
from meshes.sequence import MeshSequence
from meshes.view import View
from tests.meshes.walking_animal import walking_animal


def animal_in_view(
    timesteps: int = 3,
    rings: int = 14,
    kind: str = "textured",
    *,
    is_moving: bool = False,
    is_orthographic: bool = False,
) -> MeshSequence:
    """The walking animal, filmed 320 x 240 px from its left, above, with a rolled camera.

    A moving camera follows: it goes to the right and up.
    """
    meshes = walking_animal(timesteps, rings, kind)
    (camera,) = fit_cameras(meshes.vertices, [ViewDirection(50, 20)], 240)
    turn = np.radians(7)
    roll = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    axes = roll @ camera.axes.astype(float)
    axes = np.linalg.svd(axes)[0] @ np.linalg.svd(axes)[2]  # float32 is no exact rotation
    path = np.linspace(0, 1, timesteps)[:, None] * ((0.2, 0.1, 0.0) if is_moving else (0, 0, 0))
    middle = (meshes.vertices.min(axis=(0, 1)) + meshes.vertices.max(axis=(0, 1))).astype(float) / 2
    view = View(
        axes,
        camera.eye + path,
        middle,
        90.0 if is_orthographic else 120 / camera.slope,
        320,
        240,
        "centred" if is_moving else "constant",
        is_orthographic,
    )
    return replace(meshes, view=view)
