"""What a mode means: every number resolved, for each pipeline. A leaf; decides nothing.

Upstream's numbers are those of facebookresearch/actionmesh at the pinned commit
(actionmesh/configs/actionmesh*.yaml and inference scripts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["default", "fast", "fast_low_ram"]
MODES: tuple[Mode, ...] = get_args(Mode)

MIN_FRAMES = 16
"""ActionMesh's window: fewer frames are refused."""
MAX_FRAMES = 31
"""Two windows that share one frame; 17 to 30 frames cost as much, so a job takes 16 or 31."""


@dataclass(frozen=True)
class SilhouettePreset:
    """The CPU pipeline's numbers.

    `crop_px` is the side of the square that frames are cropped to; `vertices` the target size of
    the mesh; `control_nodes` that of the 2-D mesh which is tracked; `reference_candidates` how many
    frames are tried as the mesh's reference; `reanchor` compares every frame with the reference
    picture once more.

    Measured on the camel and the kangaroo with alpha (`python -m benchmarks.silhouette`, one core
    of an AMD EPYC; IoU is the projected mesh's against the true mask, colour the texture's mean
    error of 255):

    | mode         | CPU s, 16 / 31 frames | peak RSS MB | IoU mean | worst frame | colour |
    |--------------|-----------------------|-------------|----------|-------------|--------|
    | default      | 6 / 9                 | 360         | .98      | .97         | 10, 28 |
    | fast         | 3 / 5                 | 260         | .96-.98  | .86         | 13, 32 |
    | fast_low_ram | 2 / 3                 | 220         | .96-.97  | .92         | 15, 38 |

    A plain background adds 1.3 s, a busy one 3.5 s.
    """

    crop_px: int
    vertices: int
    control_nodes: int
    reference_candidates: int
    reanchor: bool


SILHOUETTE: dict[Mode, SilhouettePreset] = {
    "default": SilhouettePreset(512, 10_000, 1_000, 8, True),
    "fast": SilhouettePreset(384, 6_000, 700, 4, False),
    "fast_low_ram": SilhouettePreset(320, 4_000, 400, 2, False),
}


@dataclass(frozen=True)
class ActionMeshPreset:
    """Upstream's numbers. `min_vram_gb` is the memory that upstream publishes for the mode."""

    stage_0_steps: int
    stage_1_steps: int
    guidance_scale: float
    face_decimation: int
    floaters_threshold: float
    low_ram: bool
    min_vram_gb: int


ACTIONMESH: dict[Mode, ActionMeshPreset] = {
    "default": ActionMeshPreset(100, 30, 7.5, 40_000, 0.02, False, 32),
    "fast": ActionMeshPreset(50, 15, 7.5, 40_000, 0.02, False, 16),
    "fast_low_ram": ActionMeshPreset(50, 15, 7.5, 40_000, 0.02, True, 12),
}
