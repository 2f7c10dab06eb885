"""animated_mesh.usdz, read back with USD's own library and checked by its own validators."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence, Texture
from tests.meshes.animal_in_view import animal_in_view
from tests.meshes.glb_reader import signed_volume
from tests.meshes.walking_animal import walking_animal

pytest.importorskip("pxr", reason="usd-core is not installed (requirements/usd.txt)")
from pxr import Sdf, Usd, UsdGeom, UsdShade, UsdValidation

from meshes.usd import write_usdz

KINDS = ("plain", "coloured", "textured")


def written(sequence: MeshSequence, folder: Path) -> Path:
    path = folder / "animated_mesh.usdz"
    write_usdz(sequence, vertex_normals(sequence), path)
    return path


def opened(sequence: MeshSequence, folder: Path) -> Any:
    """The stage. Keep a reference: its prims are invalid without it."""
    return Usd.Stage.Open(str(written(sequence, folder)))


def mesh_of(stage: Any) -> Any:
    return UsdGeom.Mesh(stage.GetDefaultPrim().GetChild("AnimatedMesh"))


@pytest.mark.parametrize("timesteps", [1, 2, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_timestep_is_read_back_bit_for_bit(kind: str, timesteps: int, tmp_path: Path) -> None:
    sequence = walking_animal(timesteps, rings=12, kind=kind)
    normals = vertex_normals(sequence)
    stage = opened(sequence, tmp_path)
    mesh = mesh_of(stage)
    faces = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    assert np.array_equal(faces, sequence.faces)
    assert set(mesh.GetFaceVertexCountsAttr().Get()) == {3}
    for k, vertices in enumerate(sequence.vertices):
        points = np.array(mesh.GetPointsAttr().Get(k))
        assert np.array_equal(points, vertices)
        assert signed_volume(points, faces) > 0
        assert np.array_equal(np.array(mesh.GetNormalsAttr().Get(k)), normals[k])
        bounds = np.array(mesh.GetExtentAttr().Get(k))
        assert np.array_equal(bounds, [vertices.min(axis=0), vertices.max(axis=0)])
    assert os.listdir(tmp_path) == ["animated_mesh.usdz"]


@pytest.mark.parametrize("kind", KINDS)
def test_usds_own_validators_find_nothing(kind: str, tmp_path: Path) -> None:
    stage = opened(walking_animal(3, rings=12, kind=kind), tmp_path)
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 10
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [error.GetMessage() for error in found] == []


def test_the_stage_has_rate_unit_and_up_axis(tmp_path: Path) -> None:
    sequence = replace(walking_animal(5, rings=8), fps=12.5)
    stage = opened(sequence, tmp_path)
    assert stage.GetTimeCodesPerSecond() == 12.5
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, 4)
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    mesh = mesh_of(stage)
    assert mesh.GetDoubleSidedAttr().Get() and mesh.GetSubdivisionSchemeAttr().Get() == "none"
    between = np.array(mesh.GetPointsAttr().Get(1.5))
    assert np.allclose(between, sequence.vertices[1:3].mean(axis=0), atol=1e-6)


def test_the_picture_is_packed_unchanged_with_the_glbs_uv(tmp_path: Path) -> None:
    sequence = walking_animal(2, rings=8)
    assert sequence.texture is not None
    path = written(sequence, tmp_path)
    with zipfile.ZipFile(path) as package:
        assert package.testzip() is None
        assert package.namelist()[0] == "animated_mesh.usdc"  # the first one is the stage
        (picture,) = [name for name in package.namelist() if name.endswith(".jpg")]
        assert package.read(picture) == sequence.texture.image
        assert str(tmp_path).encode() not in b"".join(map(package.read, package.namelist()))
    stage = Usd.Stage.Open(str(path))
    st = np.array(UsdGeom.PrimvarsAPI(mesh_of(stage)).GetPrimvar("st").Get())
    assert np.allclose(st, sequence.texture.uv * (1, -1) + (0, 1), atol=1e-6)
    (node,) = [prim for prim in stage.Traverse() if prim.GetName() == "Picture"]
    asset = UsdShade.Shader(node).GetInput("file").Get()
    assert isinstance(asset, Sdf.AssetPath) and picture in asset.resolvedPath


def test_colours_are_read_back_in_linear_light(tmp_path: Path) -> None:
    sequence = walking_animal(2, rings=8, kind="coloured")
    assert sequence.colors is not None
    stage = opened(sequence, tmp_path)
    mesh = mesh_of(stage)
    read = np.array(mesh.GetDisplayColorPrimvar().Get())
    assert np.array_equal(np.rint(read * 255), sequence.colors[:, :3])


@pytest.mark.parametrize("kind", ["constant", "moving", "orthographic"])
def test_the_videos_camera_shows_the_vertices_where_the_video_has_them(
    kind: str, tmp_path: Path
) -> None:
    sequence = animal_in_view(3, is_moving=kind == "moving", is_orthographic=kind == "orthographic")
    assert sequence.view is not None
    stage = opened(sequence, tmp_path)
    camera = UsdGeom.Camera(stage.GetDefaultPrim().GetChild("video"))
    for t, vertices in enumerate(sequence.vertices):
        frustum = camera.GetCamera(t).frustum
        shown = np.array(frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix())
        x, y, _, w = (np.c_[vertices, np.ones(len(vertices))] @ shown).T
        seen = np.stack([(1 + x / w) / 2, (1 - y / w) / 2], axis=1) * (320, 240)
        assert np.abs(seen - sequence.view.project(vertices, t)).max() < 0.01
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [error.GetMessage() for error in found] == []


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    sequence = walking_animal(2, rings=8)
    path = tmp_path / "animated_mesh.usdz"
    with pytest.raises(ValueError, match="normals"):
        write_usdz(sequence, vertex_normals(sequence)[:1], path)
    assert sequence.texture is not None
    lying = Texture(b"no picture", "image/png", sequence.texture.uv)
    with pytest.raises(ValueError, match="image/png"):
        write_usdz(replace(sequence, texture=lying), vertex_normals(sequence), path)
    assert os.listdir(tmp_path) == []
