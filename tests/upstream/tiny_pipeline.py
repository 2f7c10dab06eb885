"""The real ActionMesh pipeline over tiny weights, for a real child: PIPELINE names the class here.

The weights are those that `tiny.write_cache` put under HF_HOME. Holds no tests.
"""

from __future__ import annotations

from actionmesh_wrapper import ActionMeshPipeline
from tests.upstream import tiny


class TinyActionMesh(ActionMeshPipeline):
    """On the CPU, with few steps and a coarse octree; settings are read from the environment."""

    def __init__(self) -> None:
        super().__init__(presets=tiny.PRESETS, device="cpu", octree_depth=tiny.OCTREE_DEPTH)
