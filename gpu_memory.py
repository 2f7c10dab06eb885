"""How much GPU memory a job needs, and which weights wait in host memory so that it suffices.

Numbers and functions only, without torch. pipeline.py tells the API from them which modes fit a
card; actionmesh_wrapper.py chooses a plan for each job; upstream/engine.py moves the weights. All
memory is in GB of 1e9 bytes. The figures are estimates until they are measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Part = Literal["background", "shape", "context", "motion", "decoding"]
"""A model of ActionMesh, by the stage that uses it, in the order of a job."""

PARTS: tuple[Part, ...] = get_args(Part)

Placement = Literal["resident", "parked", "one_part"]
"""Which weights are on the GPU: all; those of motion and decoding, and the running stage's; only
the running stage's."""

WAITING: Mapping[Placement, frozenset[Part]] = {
    "resident": frozenset(),
    "parked": frozenset(("background", "shape", "context")),
    "one_part": frozenset(PARTS),
}
"""The parts that wait in host memory while another stage runs."""

WEIGHTS_GB: Mapping[Part, float] = {
    "background": 0.18,  # RMBG-1.4, 44 M parameters in float32
    "shape": 3.97,  # TripoSG and its DINOv2, 1,987 M in float16
    "context": 1.22,  # DINOv2 large, 304 M in float32
    "motion": 2.88,  # denoiser, 1,440 M in bfloat16
    "decoding": 0.45,  # autoencoder, 201 M in bfloat16 and 13 M in float32
}
"""Each part on the GPU, from its number of parameters; a test counts them."""

_MOTION_GB = 6.7
"""Stage I works on 2 x 16 frames of 2049 tokens of 2048 bfloat16: 0.27 GB a tensor, of which 10 are
kept for skip connections and about 15 are temporary. In low RAM the two halves run one by one. A
test counts it, and that of decoding."""

_KEPT_GB = 0.2
"""The context and the latents of 121 frames, 257 x 1024 and 2048 x 64 float32 each, which stage I
keeps. Nothing else of it grows: it works on one window of 16 frames at a time, as stage II does."""

_WORKING_GB: Mapping[Part, float] = {
    "background": 2.0,  # four frames of 1024 x 1024; SAM 2 before it needs less than 1.5 in float32
    "shape": 3.0,  # the octree's grid of 505^3, six times in float16 or float32; the steps' graph
    "context": 1.9,  # DINOv2 looks at all frames at once: 121 of them; 0.5 for 31
    "motion": _MOTION_GB + _KEPT_GB,
    "decoding": 2.0,
}
"""What a stage needs beside weights."""

_RESERVE_GB = 1.5
"""The CUDA context, the workspaces of cuBLAS and cuDNN, and memory lost to fragmentation."""


@dataclass(frozen=True)
class MemoryPlan:
    """How a job runs: where the weights are, and whether the arithmetic saves memory.

    The placement changes no result. `low_ram` is that of ActionMeshPreset.
    """

    placement: Placement
    low_ram: bool

    @property
    def needed_gb(self) -> float:
        """The most that any stage needs."""
        waiting = WAITING[self.placement]
        held = sum(size for part, size in WEIGHTS_GB.items() if part not in waiting)
        return _RESERVE_GB + max(
            held + (WEIGHTS_GB[part] if part in waiting else 0.0) + self.working_gb(part)
            for part in PARTS
        )

    def working_gb(self, part: Part) -> float:
        """What a stage needs beside weights."""
        is_halved = part == "motion" and self.low_ram
        return _MOTION_GB / 2 + _KEPT_GB if is_halved else _WORKING_GB[part]


def plans(low_ram: bool) -> tuple[MemoryPlan, ...]:
    """The plans for a mode, the fastest first. The last one always saves memory."""
    own = tuple(MemoryPlan(placement, low_ram) for placement in WAITING)
    return own if low_ram else (*own, MemoryPlan("one_part", True))


def choose_plan(
    low_ram: bool, free_gb: float, failed: MemoryPlan | None = None
) -> MemoryPlan | None:
    """The fastest plan that fits `free_gb`, else the smallest one, since these are estimates.

    `low_ram` is the mode's. After `failed` ran out of memory only plans below it are left; None if
    there are none.
    """
    left = plans(low_ram)
    if failed is not None:
        left = left[left.index(failed) + 1 :]
    return next((plan for plan in left if plan.needed_gb <= free_gb), left[-1] if left else None)


def needed_gb(low_ram: bool) -> float:
    """The least that a mode needs as it is; a mode that is not `low_ram` may end as one."""
    return min(plan.needed_gb for plan in plans(low_ram) if plan.low_ram == low_ram)
