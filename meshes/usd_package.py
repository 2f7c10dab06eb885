"""What both USD packages share: stage, surface of the mesh, material, the video's camera, package.

usd.py and usd_skin.py, the callers, add the motion. Needs usd-core (requirements/usd.txt).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, UsdUtils, Vt

from meshes.atomic_file import atomic_file
from meshes.external_tools import ToolFailed
from meshes.sequence import MeshSequence, Texture
from meshes.texture import SUFFIXES, check_texture
from meshes.view import View

ROOT = "/Root"
_SURFACE = f"{ROOT}/Looks/Surface"
_CAMERA = f"{ROOT}/video"
_SENSOR = 36.0
"""Width of a perspective camera's sensor, in tenths of a unit, as USD counts it."""
_CLAY = (0.8, 0.8, 0.8)
_TYPES = Sdf.ValueTypeNames


def write_package(
    sequence: MeshSequence, path: Path, add_mesh: Callable[[Usd.Stage], UsdGeom.Mesh]
) -> None:
    """Write a .usdz: the mesh that `add_mesh` puts below ROOT, its material, the view.

    Timestep k is at time code k, with fps time codes per second. Axes are unchanged (+Y up), a
    unit is a metre; a picture is stored unchanged. Raises ToolFailed, and ValueError for a wrong
    texture; then no file is left.
    """
    if sequence.texture:
        check_texture(sequence.texture)
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix="usd-") as folder,
        atomic_file(path) as part,
    ):
        # both writers choose the format by the suffix
        layer, package = Path(folder, f"{path.stem}.usdc"), Path(folder, f"{path.stem}.usdz")
        try:
            stage = _new_stage(sequence, layer)
            mesh = add_mesh(stage)
            surface = _add_surface(stage, sequence, layer.parent)
            UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(surface)
            if sequence.view:
                _add_camera(stage, sequence.view)
            stage.GetRootLayer().Save()
            is_packed = UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(layer)), str(package))
        except RuntimeError as exc:  # Tf.ErrorException is one
            raise ToolFailed("USD could not be written") from exc
        if not is_packed or not package.is_file():
            raise ToolFailed("USD could not be packed")
        package.replace(part)


def define_mesh(stage: Usd.Stage, path: str, sequence: MeshSequence) -> UsdGeom.Mesh:
    """A mesh with faces, and texture coordinates or colours; without points and normals."""
    mesh = UsdGeom.Mesh.Define(stage, path)
    corners = np.full(len(sequence.faces), 3, np.int32)
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(corners))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(sequence.faces.ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(True)
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    primvars = UsdGeom.PrimvarsAPI(mesh)
    vertex = UsdGeom.Tokens.vertex
    if sequence.texture:
        # USD measures v from the picture's lower edge
        uv = (sequence.texture.uv * (1, -1) + (0, 1)).astype(np.float32)
        st = primvars.CreatePrimvar("st", _TYPES.TexCoord2fArray, vertex)
        st.Set(Vt.Vec2fArray.FromNumpy(uv))
    elif sequence.colors is not None:
        rgb = sequence.colors[:, :3].astype(np.float32) / 255
        mesh.CreateDisplayColorPrimvar(vertex).Set(Vt.Vec3fArray.FromNumpy(rgb))
    return mesh


def vectors(values: NDArray[np.float32]) -> Vt.Vec3fArray:
    """`(N, 3)` as USD stores it."""
    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values))


def bounds(vertices: NDArray[np.float32]) -> Vt.Vec3fArray:
    """The extent of vertices `(V, 3)`."""
    return vectors(np.stack([vertices.min(axis=0), vertices.max(axis=0)]))


def _new_stage(sequence: MeshSequence, path: Path) -> Usd.Stage:
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(len(sequence) - 1)
    stage.SetTimeCodesPerSecond(sequence.fps)
    stage.SetFramesPerSecond(sequence.fps)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, ROOT).GetPrim())
    return stage


def _add_camera(stage: Usd.Stage, view: View) -> None:
    """The video's camera: along -Z with +Y up, as in View and glTF."""
    camera = UsdGeom.Camera.Define(stage, _CAMERA)
    wide = 10 * view.width / view.focal if view.is_orthographic else _SENSOR
    camera.CreateHorizontalApertureAttr(wide)
    camera.CreateVerticalApertureAttr(wide * view.height / view.width)
    if view.is_orthographic:
        camera.CreateProjectionAttr(UsdGeom.Tokens.orthographic)
    else:
        camera.CreateFocalLengthAttr(wide * view.focal / view.width)
    camera.CreateClippingRangeAttr(Gf.Vec2f(*view.clipping_range))
    place = camera.AddTransformOp()
    for t, eye in enumerate(view.eyes if view.is_moving else view.eyes[:1]):
        matrix = np.eye(4)  # of row vectors
        matrix[:3, :3], matrix[3, :3] = view.axes, eye
        place.Set(Gf.Matrix4d(matrix.tolist()), t)


def _add_surface(stage: Usd.Stage, sequence: MeshSequence, folder: Path) -> UsdShade.Material:
    """A matt material like the GLBs'; its colour is the picture, the vertex colours or grey."""
    material = UsdShade.Material.Define(stage, _SURFACE)
    shader = UsdShade.Shader.Define(stage, f"{_SURFACE}/Preview")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("roughness", _TYPES.Float).Set(1.0 if sequence.has_baked_light else 0.8)
    shader.CreateInput("metallic", _TYPES.Float).Set(0.0)
    color = shader.CreateInput("diffuseColor", _TYPES.Color3f)
    if sequence.texture:
        picture = _add_picture(stage, sequence.texture, folder)
        color.ConnectToSource(picture.CreateOutput("rgb", _TYPES.Float3))
    elif sequence.colors is not None:
        color.ConnectToSource(_add_reader(stage, "Colors", _TYPES.Float3, "displayColor"))
    else:
        color.Set(Gf.Vec3f(*_CLAY))
    material.CreateSurfaceOutput().ConnectToSource(shader.CreateOutput("surface", _TYPES.Token))
    return material


def _add_picture(stage: Usd.Stage, texture: Texture, folder: Path) -> UsdShade.Shader:
    name = f"texture{SUFFIXES[texture.media_type]}"
    (folder / name).write_bytes(texture.image)
    picture = UsdShade.Shader.Define(stage, f"{_SURFACE}/Picture")
    picture.CreateIdAttr("UsdUVTexture")
    picture.CreateInput("file", _TYPES.Asset).Set(Sdf.AssetPath(f"./{name}"))
    picture.CreateInput("sourceColorSpace", _TYPES.Token).Set("sRGB")
    for axis in ("wrapS", "wrapT"):
        picture.CreateInput(axis, _TYPES.Token).Set("clamp")
    coordinates = picture.CreateInput("st", _TYPES.Float2)
    coordinates.ConnectToSource(_add_reader(stage, "Coordinates", _TYPES.Float2, "st"))
    return picture


def _add_reader(
    stage: Usd.Stage, name: str, kind: Sdf.ValueTypeName, primvar: str
) -> UsdShade.Output:
    """The output of a node that reads one of the mesh's primvars."""
    reader = UsdShade.Shader.Define(stage, f"{_SURFACE}/{name}")
    reader.CreateIdAttr(f"UsdPrimvarReader_{kind}")
    reader.CreateInput("varname", _TYPES.String).Set(primvar)
    return reader.CreateOutput("result", kind)
