"""Every GLB of a sequence with a view holds the video's camera, as glTF means it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from meshes.gltf import animated_glb, frame_glb
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from tests.meshes.animal_in_view import animal_in_view
from tests.meshes.glb_reader import ReadGlb

KINDS = ("constant", "moving", "orthographic")


def of_kind(kind: str, timesteps: int = 4) -> MeshSequence:
    return animal_in_view(
        timesteps, is_moving=kind == "moving", is_orthographic=kind == "orthographic"
    )


def projected(
    read: ReadGlb, points: NDArray[Any], translation: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Points in the picture of the file's camera, in px, by the matrices of glTF's section 3.10."""
    (camera,) = read.tree["cameras"]
    node = read.tree["nodes"][-1]
    place = np.array(node["translation"]) if translation is None else translation
    seen = Rotation.from_quat(node["rotation"]).inv().apply(points - place)
    if camera["type"] == "perspective":
        lens = camera["perspective"]
        high = np.tan(lens["yfov"] / 2) * -seen[:, 2]
        wide = high * lens["aspectRatio"]
    else:
        wide, high = camera["orthographic"]["xmag"], camera["orthographic"]["ymag"]
    x, y = seen[:, 0] / wide, seen[:, 1] / high
    size = node["extras"]["width"], node["extras"]["height"]
    return np.asarray(np.stack([(1 + x) / 2, (1 - y) / 2], axis=1) * size)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frames_camera_shows_the_vertices_where_the_video_has_them(kind: str) -> None:
    sequence = of_kind(kind)
    normals, view = vertex_normals(sequence), sequence.view
    assert view
    for k in range(len(sequence)):
        read = ReadGlb(frame_glb(sequence, k, normals))
        wanted = view.project(sequence.vertices[k], k)
        assert wanted.min() > 0 and (wanted < (320, 240)).all()
        assert np.abs(projected(read, read.attribute("POSITION")) - wanted).max() < 1e-3
        assert "animations" not in read.tree


@pytest.mark.parametrize("kind", KINDS)
def test_the_animations_camera_is_each_frames_camera(kind: str) -> None:
    sequence = of_kind(kind)
    normals, view = vertex_normals(sequence), sequence.view
    assert view
    moving = ReadGlb(animated_glb(sequence, normals))
    (animation,) = moving.tree["animations"]
    assert len(animation["channels"]) == (2 if kind == "moving" else 1)
    places = np.tile(moving.tree["nodes"][1]["translation"], (len(sequence), 1))
    if kind == "moving":
        weights, sampler = animation["samplers"]
        assert animation["channels"][1] == {
            "sampler": 1, "target": {"node": 1, "path": "translation"}
        }  # fmt: skip
        assert (sampler["input"], sampler["interpolation"]) == (weights["input"], "LINEAR")
        places = moving.array(sampler["output"])
    for k, place in enumerate(places):
        still = ReadGlb(frame_glb(sequence, k, normals))
        assert still.tree["cameras"] == moving.tree["cameras"]
        assert np.allclose(still.tree["nodes"][1]["translation"], place, atol=1e-6)
        seen = projected(moving, moving.morphed("POSITION", k), place)
        assert np.abs(seen - view.project(sequence.vertices[k], k)).max() < 1e-3


def test_its_node_is_called_video_and_holds_the_views_facts() -> None:
    sequence = of_kind("moving")
    normals, view = vertex_normals(sequence), sequence.view
    assert view
    for k in range(len(sequence)):
        tree = ReadGlb(frame_glb(sequence, k, normals)).tree
        assert tree["scenes"] == [{"nodes": [0, 1]}]
        assert tree["nodes"][0] == {"name": "subject", "mesh": 0}
        assert tree["nodes"][1]["name"] == "video" and "name" not in tree["cameras"][0]
        extras = tree["nodes"][1]["extras"]
        assert extras == {"width": 320, "height": 240, **view.to_dict(k)}
        mapped = np.c_[sequence.vertices[k], np.ones(14 * 14)] @ np.array(extras["matrix"]).T
        assert np.allclose(
            mapped[:, :2] / mapped[:, 2:], view.project(sequence.vertices[k], k), atol=0.01
        )


@pytest.mark.parametrize("kind", KINDS)
def test_it_cuts_nothing_off(kind: str) -> None:
    sequence = of_kind(kind)
    assert sequence.view
    read = ReadGlb(animated_glb(sequence, vertex_normals(sequence)))
    (camera,) = read.tree["cameras"]
    lens = camera[camera["type"]]
    away = sequence.vertices - sequence.view.eyes[:, None]
    depths = -(away @ sequence.view.axes[2])
    assert 0 < lens["znear"] < depths.min() and depths.max() < lens["zfar"]


def test_without_a_view_there_is_no_camera() -> None:
    sequence = replace(of_kind("constant"), view=None)
    tree = ReadGlb(animated_glb(sequence, vertex_normals(sequence))).tree
    assert "cameras" not in tree and len(tree["nodes"]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_trimesh_reads_the_mesh_alone(kind: str) -> None:
    sequence = of_kind(kind)
    content = animated_glb(sequence, vertex_normals(sequence))
    loaded = trimesh.load(io.BytesIO(content), file_type="glb", process=False)
    (mesh,) = loaded.geometry.values()
    assert np.array_equal(np.asarray(mesh.vertices, np.float32), sequence.vertices[0])
    assert np.allclose(loaded.bounds, [f(sequence.vertices[0], axis=0) for f in (np.min, np.max)])
