"""skinned_mesh.usdz, moved by USD's own skinning and checked by its own validators."""

from __future__ import annotations

import os
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from meshes.skin import Skin
from tests.meshes.bending_tube import bending_tube, textured_tube

pytest.importorskip("pxr", reason="usd-core is not installed (requirements/usd.txt)")
from pxr import Usd, UsdGeom, UsdSkel, UsdValidation

from meshes.usd import write_usdz
from meshes.usd_skin import write_skinned_usdz

RIG = "/Root/Rig"


def written(sequence: MeshSequence, skin: Skin, folder: Path) -> Path:
    path = folder / "skinned_mesh.usdz"
    write_skinned_usdz(sequence, skin, vertex_normals(sequence), path)
    return path


def moved(stage: Any, timesteps: int) -> np.ndarray[Any, Any]:
    """Where UsdSkel has the points `(T, V, 3)`, before the transforms of the prims above."""
    cache, root = UsdSkel.Cache(), UsdSkel.Root(stage.GetPrimAtPath(RIG))
    assert cache.Populate(root, Usd.PrimDefaultPredicate)
    (binding,) = cache.ComputeSkelBindings(root, Usd.PrimDefaultPredicate)
    (target,) = binding.GetSkinningTargets()
    skeleton, mesh = cache.GetSkelQuery(binding.GetSkeleton()), UsdGeom.Mesh(target.GetPrim())
    frames = []
    for k in range(timesteps):
        points = mesh.GetPointsAttr().Get(k)
        bones = skeleton.ComputeSkinningTransforms(k)
        assert target.ComputeSkinnedPoints(bones, points, k)
        frames.append(np.array(points))
    return np.stack(frames)


@pytest.mark.parametrize("timesteps", [1, 7])
@pytest.mark.parametrize("parents", [(-1, 0), (-1, -1)])
def test_usds_own_skinning_moves_the_points_as_the_skin_does(
    parents: tuple[int, ...], timesteps: int, tmp_path: Path
) -> None:
    sequence, skin = bending_tube(timesteps)
    skin = replace(skin, parents=parents)
    stage = Usd.Stage.Open(str(written(sequence, skin, tmp_path)))
    assert np.abs(moved(stage, timesteps) - sequence.vertices).max() < 1e-6
    joints = UsdSkel.Skeleton.Get(stage, f"{RIG}/Skeleton").GetJointsAttr().Get()
    second = "root/bone_00/bone_01" if parents[1] == 0 else "root/bone_01"
    assert list(joints) == ["root", "root/bone_00", second]
    assert os.listdir(tmp_path) == ["skinned_mesh.usdz"]


def test_the_first_timestep_is_exact_and_has_its_normals(tmp_path: Path) -> None:
    sequence, skin = bending_tube(3)
    stage = Usd.Stage.Open(str(written(sequence, skin, tmp_path)))
    mesh = UsdGeom.Mesh.Get(stage, f"{RIG}/AnimatedMesh")
    assert np.array_equal(np.array(mesh.GetPointsAttr().Get()), sequence.vertices[0])
    assert np.array_equal(np.array(mesh.GetNormalsAttr().Get()), vertex_normals(sequence)[0])
    faces = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    assert np.array_equal(faces, sequence.faces)


@pytest.mark.parametrize("kind", ["plain", "textured"])
def test_usds_own_validators_find_nothing(kind: str, tmp_path: Path) -> None:
    sequence, skin = textured_tube(3) if kind == "textured" else bending_tube(3)
    stage = Usd.Stage.Open(str(written(sequence, skin, tmp_path)))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [error.GetMessage() for error in found] == []


def test_it_stands_on_the_floor_and_its_extent_holds_every_timestep(tmp_path: Path) -> None:
    sequence, skin = bending_tube(7)
    stage = Usd.Stage.Open(str(written(sequence, skin, tmp_path)))
    floors = []
    for k, vertices in enumerate(sequence.vertices):
        cache = UsdGeom.BBoxCache(k, [UsdGeom.Tokens.default_])
        box = cache.ComputeWorldBound(stage.GetDefaultPrim()).ComputeAlignedRange()
        floors.append(box.GetMin()[1])
        assert np.allclose(np.ptp(vertices, axis=0), box.GetSize(), atol=1e-5)
    assert min(floors) == pytest.approx(0, abs=1e-6)
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, 6)
    assert stage.GetTimeCodesPerSecond() == sequence.fps


def test_the_package_is_as_phones_want_it_and_smaller_than_moving_points(tmp_path: Path) -> None:
    sequence, skin = textured_tube(7)
    path, other = written(sequence, skin, tmp_path), tmp_path / "animated_mesh.usdz"
    write_usdz(sequence, vertex_normals(sequence), other)
    assert sequence.texture is not None
    with zipfile.ZipFile(path) as package, open(path, "rb") as file:
        layer, picture = package.infolist()
        assert (layer.filename, picture.filename) == ("skinned_mesh.usdc", "texture.jpg")
        assert package.read(picture) == sequence.texture.image
        for entry in (layer, picture):
            file.seek(entry.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            assert (entry.header_offset + 30 + name + extra) % 64 == 0
            assert entry.compress_type == zipfile.ZIP_STORED
    picture_bytes = len(sequence.texture.image)
    assert path.stat().st_size - picture_bytes < (other.stat().st_size - picture_bytes) / 3


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    sequence, skin = bending_tube(3)
    normals, path = vertex_normals(sequence), tmp_path / "skinned_mesh.usdz"
    with pytest.raises(ValueError, match="normals"):
        write_skinned_usdz(sequence, skin, normals[:1], path)
    with pytest.raises(ValueError, match="skin"):
        write_skinned_usdz(sequence, bending_tube(2)[1], normals, path)
    assert os.listdir(tmp_path) == []
