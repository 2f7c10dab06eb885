"""Plays an animated GLB by the rules of glTF 2.0: nodes, samplers and skins, in float64.

Written from the specification and not from the writers, whose files it checks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.meshes.glb_reader import ReadGlb

Array = NDArray[np.float64]


class GltfPlayer:
    """One file. Times are in seconds; positions are in the space of the scene."""

    def __init__(self, content: bytes) -> None:
        self.read = ReadGlb(content)
        self._nodes: list[dict[str, Any]] = self.read.tree["nodes"]

    def skinned(self, time_s: float, clip: str = "motion") -> Array:
        """The vertices of the one skinned mesh `(V, 3)`."""
        (node,) = (node for node in self._nodes if "mesh" in node)
        skin = self.read.tree["skins"][node["skin"]]
        world = self.world(time_s, clip)
        inverse = self.read.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4)
        # matrices are stored column by column
        matrices = np.stack(
            [world[joint] @ bind.T for joint, bind in zip(skin["joints"], inverse, strict=True)]
        )
        joints = self.read.attribute("JOINTS_0")
        weights = self.read.attribute("WEIGHTS_0") / 255.0
        positions = self.read.attribute("POSITION").astype(np.float64)
        positions = np.concatenate([positions, np.ones((len(positions), 1))], axis=1)
        blended = np.einsum("vs,vsij->vij", weights, matrices[joints])
        return np.asarray(np.einsum("vij,vj->vi", blended, positions)[:, :3])

    def world(self, time_s: float, clip: str = "motion") -> dict[int, Array]:
        """Node -> its 4 x 4 matrix in the scene, for all nodes that the scene reaches."""
        moved = self._moved(time_s, clip)
        found: dict[int, Array] = {}

        def visit(node: int, above: Array) -> None:
            assert node not in found, "a node has one parent"
            found[node] = above @ _matrix({**self._nodes[node], **moved.get(node, {})})
            for child in self._nodes[node].get("children", ()):
                visit(child, found[node])

        for root in self.read.tree["scenes"][self.read.tree["scene"]]["nodes"]:
            visit(root, np.eye(4))
        return found

    def _moved(self, time_s: float, clip: str) -> dict[int, dict[str, Array]]:
        """Node -> the properties that the animation sets."""
        animations = self.read.tree.get("animations", ())
        moved: dict[int, dict[str, Array]] = {}
        for animation in animations:
            for channel in animation["channels"] if animation["name"] == clip else ():
                target, sampler = channel["target"], animation["samplers"][channel["sampler"]]
                assert sampler["interpolation"] == "LINEAR"
                value = self._sampled(sampler, time_s, target["path"] == "rotation")
                moved.setdefault(target["node"], {})[target["path"]] = value
        return moved

    def _sampled(self, sampler: dict[str, Any], time_s: float, is_rotation: bool) -> Array:
        times = self.read.array(sampler["input"]).astype(np.float64)
        values = self.read.array(sampler["output"]).astype(np.float64)
        assert len(times) == len(values) and (np.diff(times) > 0).all()
        time_s = min(max(time_s, times[0]), times[-1])
        after = min(max(int(np.searchsorted(times, time_s)), 1), len(times) - 1)
        share = (time_s - times[after - 1]) / (times[after] - times[after - 1])
        start, end = values[after - 1], values[after]
        return _slerp(start, end, share) if is_rotation else (1 - share) * start + share * end


def _slerp(start: Array, end: Array, share: float) -> Array:
    """Spherical interpolation the shorter way (appendix C.4 of the specification)."""
    cosine = float(start @ end)
    angle = np.arccos(min(1.0, abs(cosine)))
    if angle < 1e-9:
        return end
    back, forth = np.sin((1 - share) * angle), np.sin(share * angle) * np.sign(cosine)
    return np.asarray((back * start + forth * end) / np.sin(angle))


def _matrix(node: dict[str, Any]) -> Array:
    """Translation x rotation x scale of a node."""
    assert "matrix" not in node, "a node that is animated has no matrix"
    x, y, z, w = np.asarray(node.get("rotation", (0, 0, 0, 1)), float)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.asarray(node.get("scale", (1, 1, 1)), float)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix
