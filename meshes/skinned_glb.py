"""Writes a sequence as a GLB whose mesh is moved by bones (linear blend skinning).

Plain glTF 2.0: engines take it as a character with one animation. Mesh, material, texture and
camera are those of animated_mesh.glb. Called by child/.

    scene
    ├── subject      the mesh, with the skin
    ├── video        the camera, if it is known
    └── rig
        └── root     a joint that does not move: Unreal wants all bones below one
            └── bone_00 ...

The axes of the bones are those of the mesh: at timestep 0, the bind pose, no bone is turned.
Source: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html (section 3.7.3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshes.atomic_file import atomic_file
from meshes.glb import VERTEX_TARGET, Glb
from meshes.gltf import Facts, Normals, mesh_of
from meshes.gltf_camera import add_camera_motion
from meshes.sequence import MeshSequence
from meshes.skin import Skin, check_skin

STILL = 1e-6
"""A bone that moves less (as a fraction of the diagonal of timestep 0's bounding box) or turns less
(radians) has no channel."""
ENDS_MEET = 0.01
"""A clip can be looped if each vertex ends this close to its start, as a fraction of the diagonal
of timestep 0's bounding box: about what a slow motion changes from frame to frame."""


def skinned_glb(
    sequence: MeshSequence, skin: Skin, normals: Normals, facts: Facts | None = None
) -> bytes:
    """The mesh of timestep 0, the bones of `skin`, and their motion as the animation `motion`.

    Timestep k is shown at k / fps seconds; in between bones move linearly and turn evenly. A second
    animation, `motion-loop`, is the same motion where its ends meet: Godot loops what is named so.
    `normals` are those of the whole sequence `(T, V, 3)`; `facts` are plain JSON values kept in
    `asset.extras`. Raises ValueError for a skin of other vertices or timesteps, for values that are
    not finite, or normals of another shape.
    """
    check_skin(sequence, skin)
    extras = {"timesteps": len(sequence), "fps": sequence.fps, **(facts or {})}
    glb = mesh_of(sequence, 0, sequence.texture, normals, extras)
    first_bone = _add_bones(glb, skin)
    if len(sequence) > 1:
        glb.add_animation(len(sequence), sequence.fps)
        _add_motion(glb, skin, first_bone, STILL * _diagonal(sequence.vertices[0]))
        add_camera_motion(glb, sequence.view)
        if _ends_meet(sequence.vertices):
            (motion,) = glb.tree["animations"]
            glb.tree["animations"].append({**motion, "name": "motion-loop"})
    return glb.to_bytes()


def write_skinned(
    sequence: MeshSequence, skin: Skin, normals: Normals, path: Path, facts: Facts | None = None
) -> None:
    """Write `skinned_glb` to `path`, completely or not at all."""
    content = skinned_glb(sequence, skin, normals, facts)
    with atomic_file(path) as part:
        part.write_bytes(content)


def _add_bones(glb: Glb, skin: Skin) -> int:
    """Nodes for rig, root and bones, and the skin of the mesh; gives the first bone's node."""
    attributes = glb.tree["meshes"][0]["primitives"][0]["attributes"]
    joints = np.where(skin.weights > 0, skin.joints + 1, 0).astype(np.uint8)  # root is joint 0
    attributes["JOINTS_0"] = glb.add_array(joints, VERTEX_TARGET)
    attributes["WEIGHTS_0"] = glb.add_array(skin.weights, VERTEX_TARGET, normalized=True)
    nodes: list[dict[str, Any]] = glb.tree["nodes"]
    rig, root, first_bone = range(len(nodes), len(nodes) + 3)
    nodes += [{"name": "rig", "children": [root]}, {"name": "root"}]
    for bone, parent in enumerate(skin.parents):
        origin = skin.pivots[parent] if parent >= 0 else np.zeros(3, np.float32)
        place = (skin.pivots[bone] - origin).tolist()
        nodes.append({"name": f"bone_{bone:02d}", "translation": place})
        above = nodes[first_bone + parent if parent >= 0 else root]
        above.setdefault("children", []).append(first_bone + bone)
    glb.tree["scenes"][0]["nodes"].append(rig)
    glb.tree["skins"] = [
        {
            "name": "rig",
            "skeleton": root,
            "joints": list(range(root, len(nodes))),
            "inverseBindMatrices": glb.add_array(_inverse_bind_matrices(skin)),
        }
    ]
    nodes[0]["skin"] = 0
    return first_bone


def _inverse_bind_matrices(skin: Skin) -> NDArray[np.float32]:
    """`(1 + B, 16)`, column by column: of the root, and of bones that only move to the origin."""
    matrices = np.tile(np.eye(4, dtype=np.float32).ravel(), (1 + len(skin.parents), 1))
    matrices[1:, 12:15] = -skin.pivots
    return matrices


def _add_motion(glb: Glb, skin: Skin, first_bone: int, still: float) -> None:
    """Channels for bones that turn, or move by more than `still`.

    The first one always has a channel, so that no animation is empty.
    """
    positions, rotations = skin.local_motion()
    moves = np.abs(positions - positions[0]).max(axis=(0, 2)) > still
    turns = np.abs(rotations - rotations[0]).max(axis=(0, 2)) > STILL / 2
    moves[0] = True
    for bone in range(len(skin.parents)):
        if moves[bone]:
            glb.add_channel(first_bone + bone, "translation", positions[:, bone])
        if turns[bone]:
            glb.add_channel(first_bone + bone, "rotation", rotations[:, bone])


def _ends_meet(vertices: NDArray[np.float32]) -> bool:
    """True if a motion comes back to where it began; False if nothing moves."""
    near = ENDS_MEET * _diagonal(vertices[0])
    away = [float(np.linalg.norm(now - vertices[0], axis=1).max()) for now in vertices[1:]]
    return away[-1] <= near < max(away)


def _diagonal(vertices: NDArray[np.float32]) -> float:
    """Of the bounding box of vertices `(V, 3)`."""
    return float(np.linalg.norm(np.ptp(vertices, axis=0)))
