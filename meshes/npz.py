"""Writes animated_mesh.npz: the sequence as plain numpy arrays.

Its format is stable for users: keys are added, never renamed. The checkpoint of a job is another
file, MeshSequence.save.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meshes.atomic_file import atomic_file
from meshes.sequence import MeshSequence


def write_npz(sequence: MeshSequence, path: Path) -> None:
    """Write an .npz that `numpy.load(path)` reads without pickle, complete or not at all.

    Keys: `vertices` float32 (T, V, 3), `faces` int32 (F, 3), `fps` float64 (); where the sequence
    has them `colors` uint8 (V, 4) in linear light, or `uv` float32 (V, 2) with its origin at the
    picture's upper left, `texture` uint8 (bytes of the picture's file) and `texture_media_type`;
    where the view is known `camera_matrix` float64 (T, 3, 4) as View.matrix gives it, and
    `camera_size` int64 (2,), the width and height of the pictures that it maps to.
    Not compressed: compression takes thirty times as long and saves an eighth.
    """
    arrays = sequence.arrays()
    if sequence.texture is not None:
        arrays["texture"] = np.frombuffer(sequence.texture.image, np.uint8)
        arrays["texture_media_type"] = np.str_(sequence.texture.media_type)
    if (view := sequence.view) is not None:
        arrays["camera_matrix"] = np.stack([view.matrix(t) for t in range(len(sequence))])
        arrays["camera_size"] = np.array([view.width, view.height])
    with atomic_file(path) as part, open(part, "wb") as file:
        np.savez(file, **arrays)
