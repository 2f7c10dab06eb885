"""A skinned GLB, played by the rules of glTF, shows what the skin says, at frames and between."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation, Slerp

from meshes.gltf import animated_glb
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from meshes.skin import Skin
from meshes.skinned_glb import skinned_glb
from tests.meshes.animal_in_view import animal_in_view
from tests.meshes.bending_tube import bending_tube, one_bone
from tests.meshes.gltf_player import GltfPlayer

ROUNDING = 2e-6
"""Float32 positions and rotations of a chain of bones, as a fraction of the diagonal."""


def diagonal(sequence: MeshSequence) -> float:
    return float(np.linalg.norm(np.ptp(sequence.vertices[0], axis=0)))


def written(sequence: MeshSequence, skin: Skin) -> GltfPlayer:
    return GltfPlayer(skinned_glb(sequence, skin, vertex_normals(sequence), {"seed": 44}))


def test_every_timestep_is_where_the_sequence_has_it() -> None:
    sequence, skin = bending_tube()
    played = written(sequence, skin)
    for k, vertices in enumerate(sequence.vertices):
        moved = played.skinned(k / sequence.fps)
        assert np.abs(moved - vertices).max() <= ROUNDING * diagonal(sequence)
    assert np.array_equal(played.read.attribute("POSITION"), sequence.vertices[0])


def test_a_mesh_in_units_of_kilometres_moves_too() -> None:
    sequence, skin = bending_tube()
    small = np.float32(1e-6)
    sequence = replace(sequence, vertices=sequence.vertices * small)
    skin = replace(
        skin, parents=(-1, -1), pivots=skin.pivots * small, positions=skin.positions * small
    )
    moved = written(sequence, skin).skinned((len(sequence) - 1) / sequence.fps)
    assert np.abs(moved - sequence.vertices[-1]).max() <= ROUNDING * diagonal(sequence)


def test_between_two_timesteps_bones_are_halfway() -> None:
    sequence, skin = bending_tube()
    played, (positions, rotations) = written(sequence, skin), skin.local_motion()
    size = diagonal(sequence)
    for k in range(len(skin) - 1):
        moved = played.skinned((k + 0.5) / sequence.fps)
        halfway = np.stack(
            [
                Slerp([0, 1], Rotation.from_quat(rotations[k : k + 2, bone]))(0.5).as_quat()
                for bone in range(len(skin.parents))
            ]
        )
        places = (positions[k] + positions[k + 1]) / 2
        expected = _posed(sequence.vertices[0], skin, places, halfway)
        assert np.abs(moved - expected).max() <= ROUNDING * size
        # bones turn on arcs and morph targets move on chords: 12 degrees a timestep, as 60 in 7
        # here, are .14 % of the radius apart
        straight = (sequence.vertices[k] + sequence.vertices[k + 1]) / 2
        assert np.abs(moved - straight).max() <= 0.0025 * size


def _posed(rest: np.ndarray, skin: Skin, places: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """The vertices for local positions `(B, 3)` and rotations `(B, 4)`, from parent to child."""
    turns: list[Rotation] = []
    origins: list[np.ndarray] = []
    for place, quaternion, parent in zip(places, rotations, skin.parents, strict=True):
        turn = Rotation.from_quat(quaternion)
        turns.append(turns[parent] * turn if parent >= 0 else turn)
        above = turns[parent].apply(place) + origins[parent] if parent >= 0 else place
        origins.append(above)
    moved = np.zeros(rest.shape)
    for bone, pivot in enumerate(skin.pivots):
        share = np.where(skin.joints == bone, skin.weights / 255, 0).sum(axis=1, keepdims=True)
        moved += share * (turns[bone].apply(rest - pivot) + origins[bone])
    return moved


def test_the_rig_is_one_tree_below_a_root_that_does_not_move() -> None:
    sequence, skin = bending_tube()
    tree = written(sequence, skin).read.tree
    names = [node["name"] for node in tree["nodes"]]
    assert names == ["subject", "rig", "root", "bone_00", "bone_01"]
    assert tree["scenes"][0]["nodes"] == [0, 1]  # a skinned mesh belongs at the top
    assert tree["nodes"][0] == {"name": "subject", "mesh": 0, "skin": 0}
    assert [node.get("children") for node in tree["nodes"]] == [None, [2], [3], [4], None]
    (made,) = tree["skins"]
    assert made["joints"] == [2, 3, 4] and made["skeleton"] == 2
    (motion,) = tree["animations"]
    assert motion["name"] == "motion"
    moved = [(each["target"]["node"], each["target"]["path"]) for each in motion["channels"]]
    assert moved == [(3, "translation"), (3, "rotation"), (4, "rotation")]  # what moves, only
    assert tree["asset"]["extras"] == {"timesteps": 7, "fps": 12.0, "seed": 44}
    assert "extensionsUsed" not in tree


def test_a_joint_without_weight_is_joint_0() -> None:
    sequence, skin = bending_tube()
    read = written(sequence, skin).read
    weights, joints = read.attribute("WEIGHTS_0"), read.attribute("JOINTS_0")
    assert weights.dtype == joints.dtype == np.uint8
    assert np.array_equal(weights, skin.weights) and (joints[weights == 0] == 0).all()
    assert (joints[weights > 0] > 0).all()


@pytest.mark.parametrize("kind", ["plain", "coloured", "textured"])
def test_surface_and_camera_are_those_of_the_animated_mesh(kind: str) -> None:
    sequence = animal_in_view(3, kind=kind, is_moving=True)
    sequence = replace(sequence, has_baked_light=kind != "plain")
    normals = vertex_normals(sequence)
    made = GltfPlayer(skinned_glb(sequence, one_bone(sequence), normals))
    other = GltfPlayer(animated_glb(sequence, normals))
    one, two = made.read.tree, other.read.tree
    for part in ("materials", "textures", "samplers", "cameras", "extensionsUsed", "asset"):
        assert one.get(part) == two.get(part), part
    for read in (made.read, other.read) if kind == "textured" else ():
        assert sequence.texture is not None
        (picture,) = read.tree["images"]
        assert read.view(picture["bufferView"]) == sequence.texture.image
    (node,) = (k for k, node in enumerate(one["nodes"]) if node["name"] == "video")
    (twin,) = (k for k, node in enumerate(two["nodes"]) if node["name"] == "video")
    assert one["nodes"][node] == two["nodes"][twin]
    assert sequence.view is not None
    for k, eye in enumerate(sequence.view.eyes):
        time_s = k / sequence.fps
        assert np.allclose(made.world(time_s)[node][:3, 3], eye, atol=1e-6)
    for name in {"POSITION", "NORMAL", "TEXCOORD_0", "COLOR_0"} & set(
        other.read.primitive["attributes"]
    ):
        assert np.array_equal(made.read.attribute(name), other.read.attribute(name))


def test_only_a_motion_that_comes_back_can_be_looped() -> None:
    sequence, skin = bending_tube()
    assert [clip["name"] for clip in written(sequence, skin).read.tree["animations"]] == ["motion"]
    there_and_back = np.array([0, 2, 4, 6, 4, 2, 0])
    back = replace(
        skin,
        rotations=skin.rotations[there_and_back],
        positions=skin.positions[there_and_back],
    )
    played = written(replace(sequence, vertices=sequence.vertices[there_and_back]), back)
    clips = [clip["name"] for clip in played.read.tree["animations"]]
    assert clips == ["motion", "motion-loop"]
    time_s = 2.3 / sequence.fps
    assert np.array_equal(played.skinned(time_s), played.skinned(time_s, "motion-loop"))
    assert not np.array_equal(played.skinned(time_s), played.skinned(0))


def test_a_mesh_that_does_not_move_has_a_clip_of_its_length() -> None:
    still = bending_tube()[0]
    still = replace(still, vertices=np.repeat(still.vertices[:1], 5, axis=0))
    tree = (played := written(still, one_bone(still))).read.tree
    (motion,) = tree["animations"]
    assert [channel["target"]["path"] for channel in motion["channels"]] == ["translation"]
    assert tree["accessors"][motion["samplers"][0]["input"]]["max"] == [np.float32(4 / 12)]
    assert np.abs(played.skinned(0.2) - still.vertices[0]).max() <= ROUNDING


def test_one_timestep_has_no_animation() -> None:
    sequence = bending_tube()[0]
    sequence = replace(sequence, vertices=sequence.vertices[:1])
    assert "animations" not in written(sequence, one_bone(sequence)).read.tree


def test_trimesh_reads_the_same_mesh() -> None:
    sequence, skin = bending_tube()
    content = skinned_glb(sequence, skin, vertex_normals(sequence))
    options = {"file_type": "glb", "force": "mesh", "process": False, "skip_materials": True}
    loaded = trimesh.load(io.BytesIO(content), **options)
    assert np.array_equal(np.asarray(loaded.vertices, np.float32), sequence.vertices[0])
    assert np.array_equal(loaded.faces, sequence.faces)


def test_a_skin_of_another_mesh_is_refused() -> None:
    sequence, skin = bending_tube()
    for other in (
        bending_tube(5)[1],
        replace(skin, joints=skin.joints[1:], weights=skin.weights[1:]),
    ):
        with pytest.raises(ValueError, match="a skin of"):
            skinned_glb(sequence, other, vertex_normals(sequence))
