"""Writes animated_mesh.usdz: the animated mesh as a USD package, points and normals over time.

Needs usd-core (requirements/usd.txt): child/exports.py, the caller, imports this file only for a
job that wants it. For Blender and USD tools: AR viewers on phones do not play moving vertices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pxr import Usd, UsdGeom

from meshes.normals import check_normals
from meshes.sequence import MeshSequence
from meshes.usd_package import ROOT, bounds, define_mesh, vectors, write_package

_MESH = f"{ROOT}/AnimatedMesh"


def write_usdz(sequence: MeshSequence, normals: NDArray[np.float32], path: Path) -> None:
    """Write a .usdz of one mesh whose points, normals and extent change with time, and the view.

    `normals` `(T, V, 3)` are those of meshes.normals. As usd_package.write_package says; raises
    ValueError for normals of another shape, too.
    """
    check_normals(sequence, normals)

    def add_mesh(stage: Usd.Stage) -> UsdGeom.Mesh:
        mesh = define_mesh(stage, _MESH, sequence)
        points, extent = mesh.CreatePointsAttr(), mesh.CreateExtentAttr()
        shading = mesh.CreateNormalsAttr()
        for k, vertices in enumerate(sequence.vertices):
            points.Set(vectors(vertices), k)
            extent.Set(bounds(vertices), k)
            shading.Set(vectors(normals[k]), k)
        return mesh

    write_package(sequence, path, add_mesh)
