"""A walking animal and the pipeline that returns it with the camera of its video.

Not a mock: `PIPELINE=tests.web.filmed:Filmed` runs in the real child. The camera stands behind the
animal, is rolled, sees it in perspective and moves, so that nothing fits by chance.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from meshes.sequence import MeshSequence
from meshes.view import View
from tests.appearance.animal_video import RINGS, animal, packed
from tests.appearance.drawn_clip import drawn_clip
from tests.meshes.walking_animal import walking_animal
from tests.pipelines import Bends

WIDTH, HEIGHT = 480, 270


def filmed() -> MeshSequence:
    """16 timesteps, without colours."""
    meshes = animal()
    axes = Rotation.from_euler("YXZ", (152, -18, 6), degrees=True).as_matrix().T
    aside = np.linspace(-0.4, 0.4, len(meshes))[:, None] * axes[0]
    eyes = 4.5 * axes[2] + aside
    return replace(meshes, view=View(axes, eyes, np.zeros(3), 520.0, WIDTH, HEIGHT, "exact"))


def filmed_video() -> bytes:
    """Its frames with alpha, as a zip."""
    meshes = filmed()
    assert meshes.view is not None
    coloured = walking_animal(len(meshes), RINGS, "coloured", meshes.fps)
    return packed(drawn_clip(coloured, meshes.view).frames)


class Filmed(Bends):
    """Returns the animal of which the frames were drawn."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """The clip has its frames, in order."""
        super().animate(clip, mode, seed, reporter)
        return replace(filmed(), fps=clip.fps)
