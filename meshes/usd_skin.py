"""Writes skinned_mesh.usdz: the mesh and bones that move it (UsdSkel), as phones play it.

AR Quick Look plays no moving vertices, but skeletons, in a loop. Needs usd-core
(requirements/usd.txt): child/exports.py, the caller, imports this file only for a job that wants
it. The file with exact vertices is usd.py's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pxr import Gf, Sdf, Usd, UsdGeom, UsdSkel, Vt

from meshes.normals import check_normals
from meshes.sequence import MeshSequence
from meshes.skin import FULL_WEIGHT, INFLUENCES, Skin, check_skin
from meshes.usd_package import ROOT, bounds, define_mesh, vectors, write_package

_RIG = f"{ROOT}/Rig"
_MESH = f"{_RIG}/AnimatedMesh"
_SKELETON = f"{_RIG}/Skeleton"
_MOTION = f"{_SKELETON}/motion"


def write_skinned_usdz(
    sequence: MeshSequence, skin: Skin, normals: NDArray[np.float32], path: Path
) -> None:
    """Write a .usdz of the mesh of timestep 0, the skin's bones and their motion, and the view.

    `normals` `(T, V, 3)` are those of meshes.normals; the first ones are stored, and readers turn
    them with the bones. All of it stands on the floor: its lowest point is at y = 0, as AR Quick
    Look wants it. Else as usd_package.write_package says; raises ValueError for normals or a skin
    of other shapes, too.
    """
    check_normals(sequence, normals)
    check_skin(sequence, skin)

    def add_mesh(stage: Usd.Stage) -> UsdGeom.Mesh:
        lowest = float(sequence.vertices[..., 1].min())
        UsdGeom.Xform.Get(stage, ROOT).AddTranslateOp().Set(Gf.Vec3d(0, -lowest, 0))
        extent = UsdSkel.Root.Define(stage, _RIG).CreateExtentAttr()
        for k, vertices in enumerate(sequence.vertices):
            extent.Set(bounds(vertices), k)
        _add_skeleton(stage, skin)
        mesh = define_mesh(stage, _MESH, sequence)
        mesh.CreatePointsAttr(vectors(sequence.vertices[0]))
        mesh.CreateNormalsAttr(vectors(normals[0]))
        mesh.CreateExtentAttr(bounds(sequence.vertices[0]))
        _bind(mesh, skin)
        return mesh

    write_package(sequence, path, add_mesh)


def _add_skeleton(stage: Usd.Stage, skin: Skin) -> None:
    """The bones below one root, as engines want it, and their motion."""
    names = _joints(skin)
    skeleton = UsdSkel.Skeleton.Define(stage, _SKELETON)
    skeleton.CreateJointsAttr(names)
    places = np.concatenate([np.zeros((1, 3)), skin.pivots])
    above = np.concatenate([[0], np.array(skin.parents) + 1])
    skeleton.CreateBindTransformsAttr(_translations(places))
    skeleton.CreateRestTransformsAttr(_translations(places - places[above]))
    motion = UsdSkel.Animation.Define(stage, _MOTION)
    motion.CreateJointsAttr(names)
    motion.CreateScalesAttr(Vt.Vec3hArray([Gf.Vec3h(1)] * len(names)))
    moves, turns = motion.CreateTranslationsAttr(), motion.CreateRotationsAttr()
    positions, rotations = skin.local_motion()
    for k in range(len(skin)):
        moves.Set(vectors(np.concatenate([np.zeros((1, 3), np.float32), positions[k]])), k)
        quaternions = [Gf.Quatf(w, x, y, z) for x, y, z, w in rotations[k].tolist()]
        turns.Set(Vt.QuatfArray([Gf.Quatf(1), *quaternions]), k)
    binding = UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
    binding.CreateAnimationSourceRel().SetTargets([Sdf.Path(_MOTION)])


def _bind(mesh: UsdGeom.Mesh, skin: Skin) -> None:
    """Joint 0 is the root: the skin's joints are those after it."""
    joints = np.where(skin.weights > 0, skin.joints.astype(np.int32) + 1, 0)
    weights = skin.weights.astype(np.float32) / FULL_WEIGHT
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([Sdf.Path(_SKELETON)])
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1))
    binding.CreateJointIndicesPrimvar(False, INFLUENCES).Set(Vt.IntArray.FromNumpy(joints.ravel()))
    binding.CreateJointWeightsPrimvar(False, INFLUENCES).Set(
        Vt.FloatArray.FromNumpy(weights.ravel())
    )


def _joints(skin: Skin) -> list[str]:
    """The joints' paths from the root, in the skin's order."""
    paths = ["root"]
    for bone, parent in enumerate(skin.parents):
        paths.append(f"{paths[parent + 1]}/bone_{bone:02d}")
    return paths


def _translations(places: NDArray[np.float64]) -> Vt.Matrix4dArray:
    """Matrices `(B, 4, 4)` that move to these places `(B, 3)`."""
    return Vt.Matrix4dArray([Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*place)) for place in places])
