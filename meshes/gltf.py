"""Writes a sequence as GLB: one file per timestep, and one animated file.

glTF 2.0; the only extension is KHR_materials_unlit, which a reader may ignore.
Vertices are written unchanged (glTF has the sequence's axes), in order, in float32; ActionMesh's
own exporter mirrors its animated file, this one does not. A sequence's view becomes a camera.
Called by child/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshes.atomic_file import atomic_file
from meshes.glb import INDEX_TARGET, VERTEX_TARGET, Glb
from meshes.gltf_camera import add_camera, add_camera_motion
from meshes.normals import check_normals
from meshes.sequence import MeshSequence, Texture
from meshes.texture import check_texture, vertex_colors

LARGEST_FRAME_TEXTURE_BYTES = 512 * 1024
"""The largest texture that is stored in the file of every timestep."""

Normals = NDArray[np.float32]
Facts = Mapping[str, Any]

_LINEAR, _MIPMAPS, _CLAMP = 9729, 9987, 33071
_UNLIT = "KHR_materials_unlit"
_CLAY = (0.8, 0.8, 0.8, 1.0)


def frame_glb(
    sequence: MeshSequence, k: int, normals: Normals, facts: Facts | None = None
) -> bytes:
    """Timestep `k` as a GLB, with the timestep's own texture if it has one.

    `normals` are those of the whole sequence `(T, V, 3)`; `facts` are plain JSON values kept in
    `asset.extras`. Raises ValueError for values that are not finite, or normals of another shape.
    """
    if not 0 <= k < len(sequence):
        raise ValueError(f"timestep {k} is not one of {len(sequence)}")
    extras = {"timestep": k, "fps": sequence.fps, **(facts or {})}
    return mesh_of(sequence, k, sequence.texture_at(k), normals, extras).to_bytes()


def animated_glb(sequence: MeshSequence, normals: Normals, facts: Facts | None = None) -> bytes:
    """All timesteps in one GLB: timestep 0, and the others as morph targets with normals.

    Timestep k is shown at k / fps seconds, with linear interpolation in between. A sequence of one
    timestep gives a plain GLB. Parameters and errors as in `frame_glb`.
    """
    return _animated(sequence, normals, facts).to_bytes()


def _animated(sequence: MeshSequence, normals: Normals, facts: Facts | None) -> Glb:
    extras = {"timesteps": len(sequence), "fps": sequence.fps, **(facts or {})}
    glb = mesh_of(sequence, 0, sequence.texture, normals, extras)
    if len(sequence) > 1:
        _add_morph_targets(glb, sequence, normals)
        # at time k / fps target k has weight 1 and all others 0
        glb.add_animation(len(sequence), sequence.fps)
        glb.add_channel(0, "weights", np.eye(len(sequence), dtype=np.float32)[:, 1:].ravel())
        add_camera_motion(glb, sequence.view)
    return glb


def write_frames(
    sequence: MeshSequence,
    normals: Normals,
    folder: Path,
    facts: Facts | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write mesh_000.glb, mesh_001.glb ... and return their paths.

    A texture over LARGEST_FRAME_TEXTURE_BYTES is not repeated in every file: its colours at the
    vertices replace it (COLOR_0). On failure no file of this call is left.
    """
    usual = _with_light_texture(sequence, sequence.texture)
    written: list[Path] = []
    try:
        for k in range(len(sequence)):
            own = sequence.texture_at(k)
            single = usual if own is sequence.texture else _with_light_texture(sequence, own)
            path = folder / f"mesh_{k:03d}.glb"
            with atomic_file(path) as part:
                part.write_bytes(frame_glb(single, k, normals, facts))
            written.append(path)
            if on_progress:
                on_progress(k + 1, len(sequence))
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return written


def write_animated(
    sequence: MeshSequence, normals: Normals, path: Path, facts: Facts | None = None
) -> None:
    """Write `animated_glb` to `path`, completely or not at all."""
    glb = _animated(sequence, normals, facts)
    with atomic_file(path) as part, open(part, "wb") as file:
        file.writelines(glb.parts())


def _with_light_texture(sequence: MeshSequence, texture: Texture | None) -> MeshSequence:
    """The sequence with this texture only, or with its colours at the vertices if it is large."""
    if texture and len(texture.image) > LARGEST_FRAME_TEXTURE_BYTES:
        colors = vertex_colors(texture)
        return replace(sequence, texture=None, frame_textures=(), colors=colors)
    return replace(sequence, texture=texture, frame_textures=())


def mesh_of(
    sequence: MeshSequence, k: int, texture: Texture | None, normals: Normals, extras: Facts
) -> Glb:
    """Scene, mesh, material and camera of one timestep; the mesh's node is the first."""
    check_normals(sequence, normals)
    if texture:
        check_texture(texture)
    glb = Glb(dict(extras))
    attributes = {
        "POSITION": glb.add_array(sequence.vertices[k], VERTEX_TARGET, bounds=True),
        "NORMAL": glb.add_array(normals[k], VERTEX_TARGET),
    }
    if texture:
        attributes["TEXCOORD_0"] = glb.add_array(texture.uv, VERTEX_TARGET)
    elif sequence.colors is not None:
        attributes["COLOR_0"] = glb.add_array(sequence.colors, VERTEX_TARGET, normalized=True)
    # the format reserves the 16-bit index 65,535 (3.7.2.1)
    index_type = np.uint16 if sequence.vertices.shape[1] <= 65_535 else np.uint32
    indices = glb.add_array(sequence.faces.ravel().astype(index_type), INDEX_TARGET)
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    glb.tree |= {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "subject", "mesh": 0}],
        "meshes": [{"name": "subject", "primitives": [primitive]}],
        "materials": [_material(glb, texture, sequence.colors is not None)],
    }
    if sequence.has_baked_light:
        _add_no_light(glb)
    if sequence.view:
        add_camera(glb, sequence.view, k)
    return glb


def _material(glb: Glb, texture: Texture | None, has_colors: bool) -> dict[str, Any]:
    """Matt and two-sided. Always written: the format's default is metal, which looks black."""
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 0.8}
    if texture:
        image = glb.add_image(texture.image, texture.media_type)
        sampler = {"magFilter": _LINEAR, "minFilter": _MIPMAPS, "wrapS": _CLAMP, "wrapT": _CLAMP}
        glb.tree |= {"samplers": [sampler], "textures": [{"sampler": 0, "source": image}]}
        surface["baseColorTexture"] = {"index": 0}
    elif not has_colors:
        surface["baseColorFactor"] = list(_CLAY)
    return {"name": "surface", "doubleSided": True, "pbrMetallicRoughness": surface}


def _add_no_light(glb: Glb) -> None:
    """Show the colours as they are; readers that do not know the extension show a matt surface.

    Through the video's camera a mesh with the video's light differs from its frame by 1 to 4 of
    255 on average in three.js, model-viewer and Blender's Cycles; lit again, matt, by 4 to 9.
    """
    (material,) = glb.tree["materials"]
    material["pbrMetallicRoughness"]["roughnessFactor"] = 1.0
    material["extensions"] = {_UNLIT: {}}
    glb.tree["extensionsUsed"] = [_UNLIT]


def _add_morph_targets(glb: Glb, sequence: MeshSequence, normals: Normals) -> None:
    """Differences to timestep 0, exact to half a unit in their last place (IEEE rounding)."""
    mesh = glb.tree["meshes"][0]
    steps = range(1, len(sequence))
    first, upright = sequence.vertices[0], normals[0]
    with np.errstate(over="ignore"):  # add_array refuses an overflow
        mesh["primitives"][0]["targets"] = [
            {
                "POSITION": glb.add_array(sequence.vertices[k] - first, VERTEX_TARGET, bounds=True),
                "NORMAL": glb.add_array(normals[k] - upright, VERTEX_TARGET),
            }
            for k in steps
        ]
    mesh["weights"] = [0.0] * len(steps)
    mesh["extras"] = {"targetNames": [f"frame_{k:03d}" for k in steps]}
