"""Runs inside Blender, never in our process: builds the mesh and exports FBX and Alembic.

Started by meshes/blender.py with `-P blender_script.py -- <npz> <fbx> <abc> [<picture>]`, all of
them names in the current folder. Uses only what all versions since Blender 3.4 have. An exception
ends Blender with the exit code of --python-exit-code.
"""

# mypy: ignore-errors
# (bpy has no types outside Blender)

import os
import sys

import bpy
import numpy as np
from bpy_extras.node_shader_utils import PrincipledBSDFWrapper


def main(source, fbx, abc, picture=None):
    """`source` is an .npz as meshes/npz.py writes it; `picture` its texture as a file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.preferences.addon_enable(module="io_scene_fbx")
    with np.load(source) as arrays:
        subject = build(arrays)
        last = animate(subject, arrays["vertices"], float(arrays["fps"]))
    paint(subject, picture)
    # FBX stores the absolute path of its picture: use one that shows nothing of this machine
    here = "/proc/self/cwd" if os.path.isdir("/proc/self/cwd") else os.getcwd()
    if bpy.app.build_options.alembic:
        bpy.ops.wm.alembic_export(
            filepath=os.path.join(here, abc),
            start=0,
            end=last,
            uvs=True,
            vcolors=True,
            normals=False,  # 28 instead of 5 MB, and every reader can compute them
            orcos=False,
        )
    else:
        sys.stdout.write("BUILT WITHOUT ALEMBIC\n")  # blender.py looks for it
    # With its defaults this exporter loses or simplifies the animation of shape keys.
    bpy.ops.export_scene.fbx(
        filepath=os.path.join(here, fbx),
        object_types={"MESH"},
        mesh_smooth_type="FACE",
        bake_anim=last > 0,
        bake_anim_use_all_actions=False,
        bake_anim_use_nla_strips=False,
        bake_anim_simplify_factor=0.0,
        path_mode="COPY",
        embed_textures=picture is not None,
    )


def build(arrays):
    """The mesh at timestep 0, smooth, with texture coordinates or colours."""
    mesh = bpy.data.meshes.new("AnimatedMesh")
    vertices, faces = to_blender(arrays["vertices"][0]), arrays["faces"]
    mesh.from_pydata(vertices.tolist(), [], faces.tolist())
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    if "uv" in arrays:
        # Blender counts v from the picture's lower edge
        uv = arrays["uv"] * np.float32([1, -1]) + np.float32([0, 1])
        mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", uv[corners].ravel())
    if "colors" in arrays:
        colors = mesh.color_attributes.new("Color", "FLOAT_COLOR", "POINT")
        linear = arrays["colors"].astype(np.float32) / 255
        colors.data.foreach_set("color", linear.ravel())
    mesh.update()
    subject = bpy.data.objects.new("AnimatedMesh", mesh)
    bpy.context.scene.collection.objects.link(subject)
    return subject


def animate(subject, vertices, fps):
    """One shape key per timestep, with weight 1 in its own frame and 0 in all others."""
    scene, last = bpy.context.scene, len(vertices) - 1
    scene.render.fps = max(1, round(fps))
    scene.render.fps_base = scene.render.fps / fps
    scene.frame_start, scene.frame_end = 0, last
    if last > 0:
        subject.shape_key_add(name="frame_000", from_mix=False)
    for k in range(1, last + 1):
        key = subject.shape_key_add(name=f"frame_{k:03d}", from_mix=False)
        key.data.foreach_set("co", to_blender(vertices[k]).ravel())
        for frame in (k - 1, k, k + 1):
            if frame <= last:
                key.value = float(frame == k)
                key.keyframe_insert("value", frame=frame)
    scene.frame_set(0)
    return last


def paint(subject, picture):
    """A matt material, with the picture as its colour if there is one."""
    material = bpy.data.materials.new("Surface")
    material.use_nodes = True
    surface = PrincipledBSDFWrapper(material, is_readonly=False)
    surface.base_color = (0.8, 0.8, 0.8)
    surface.roughness, surface.metallic = 0.8, 0.0
    if picture:
        surface.base_color_texture.image = bpy.data.images.load(os.path.abspath(picture))
    subject.data.materials.append(material)


def to_blender(points):
    """glTF's +Y up, front +Z to Blender's +Z up, front -Y: a rotation, so nothing is mirrored."""
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=-1)


if __name__ == "__main__":
    main(*sys.argv[sys.argv.index("--") + 1 :])
