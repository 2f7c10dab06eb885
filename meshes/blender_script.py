"""Runs inside Blender, never in our process: builds the mesh and exports FBX and Alembic.

Started by meshes/blender.py, by Blender itself (`-P`) or by a Python that has bpy. All files are
named relative to the current folder. Uses only what all versions since Blender 3.4 have. An
exception ends the program with an exit code that is not 0.
"""

# mypy: ignore-errors
# (bpy has no types outside Blender)

import argparse
import math
import os
import sys

import bpy
import numpy as np
from bpy_extras.node_shader_utils import PrincipledBSDFWrapper

CENTIMETRES = 100
"""In a unit of ours, which is a metre."""
_CLIP = "motion"


def main(arguments):
    """Export each file that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", help="the mesh, an .npz as meshes/npz.py writes it")
    parser.add_argument("--picture", help="its texture")
    parser.add_argument("--fbx", help="to write: the motion as shape keys")
    parser.add_argument("--abc", help="to write: the motion as moving points")
    parser.add_argument("--skin", help="an .npz with the arrays of a Skin")
    parser.add_argument("--skinned-fbx", help="to write: the motion as the skin's bones")
    given = parser.parse_args(arguments)
    with np.load(given.source) as source:
        arrays = dict(source)
    last = len(arrays["vertices"]) - 1
    if given.fbx or given.abc:
        new_scene(last, float(arrays["fps"]))
        subject = build(to_blender(arrays["vertices"][0]), arrays, given.picture)
        add_shape_keys(subject, arrays["vertices"])
        if given.abc:
            export_alembic(given.abc)
        if given.fbx:
            export_fbx(given.fbx, last, given.picture)
    if given.skinned_fbx:
        new_scene(last, float(arrays["fps"]))
        use_centimetres()
        subject = build(arrays["vertices"][0] * CENTIMETRES, arrays, given.picture)
        with np.load(given.skin) as skin:
            add_skeleton(subject, dict(skin))
        export_fbx(given.skinned_fbx, last, given.picture)


def new_scene(last, fps):
    """An empty scene of frames 0 to `last`, whose name is the clip's name in the FBX."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.preferences.addon_enable(module="io_scene_fbx")
    scene = bpy.context.scene
    scene.name = _CLIP
    scene.render.fps = max(1, round(fps))
    scene.render.fps_base = scene.render.fps / fps
    scene.frame_start, scene.frame_end = 0, last
    scene.frame_set(0)


def use_centimetres():
    """The unit of FBX: in any other one the skeleton gets a scale of 100, which Unreal keeps."""
    units = bpy.context.scene.unit_settings
    units.system, units.scale_length = "METRIC", 1 / CENTIMETRES


def build(points, arrays, picture):
    """The mesh with these points `(V, 3)`, smooth, with texture coordinates or colours."""
    mesh, faces = bpy.data.meshes.new("AnimatedMesh"), arrays["faces"]
    mesh.from_pydata(points.tolist(), [], faces.tolist())
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
    mesh.materials.append(matt_material(picture))
    subject = bpy.data.objects.new("AnimatedMesh", mesh)
    bpy.context.scene.collection.objects.link(subject)
    return subject


def matt_material(picture):
    """With the picture as its colour if there is one."""
    material = bpy.data.materials.new("Surface")
    material.use_nodes = True
    surface = PrincipledBSDFWrapper(material, is_readonly=False)
    surface.base_color = (0.8, 0.8, 0.8)
    surface.roughness, surface.metallic = 0.8, 0.0
    if picture:
        surface.base_color_texture.image = bpy.data.images.load(os.path.abspath(picture))
    return material


def add_shape_keys(subject, vertices):
    """One shape key per timestep, with weight 1 in its own frame and 0 in all others."""
    last = len(vertices) - 1
    if last > 0:
        subject.shape_key_add(name="frame_000", from_mix=False)
    for k in range(1, last + 1):
        key = subject.shape_key_add(name=f"frame_{k:03d}", from_mix=False)
        key.data.foreach_set("co", to_blender(vertices[k]).ravel())
        for frame in (k - 1, k, k + 1):
            if frame <= last:
                key.value = float(frame == k)
                key.keyframe_insert("value", frame=frame)
    bpy.context.scene.frame_set(0)


def add_skeleton(subject, skin):
    """Bones that move the mesh: vertex groups of their names, and a key of each at each frame.

    All of it is in glTF's axes, which are those of the FBX: so the armature is turned here, and in
    the file nothing is.
    """
    names = [f"bone_{bone:02d}" for bone in range(len(skin["parents"]))]
    armature = bpy.data.objects.new("Armature", bpy.data.armatures.new("Armature"))
    armature.rotation_euler = (math.pi / 2, 0, 0)
    bpy.context.scene.collection.objects.link(armature)
    add_bones(armature, names, skin["parents"], skin["pivots"] * CENTIMETRES)
    subject.parent = armature
    subject.modifiers.new("Armature", "ARMATURE").object = armature
    for bone, name in enumerate(names):
        group = subject.vertex_groups.new(name=name)
        weights = np.where(skin["joints"] == bone, skin["weights"], 0).sum(axis=1)
        for weight in np.unique(weights[weights > 0]):
            group.add(np.flatnonzero(weights == weight).tolist(), weight / 255, "REPLACE")
    if len(skin["positions"]) > 1:
        add_motion(armature, names, skin)


def add_bones(armature, names, parents, pivots):
    """One bone per pivot and one above all of them, as Unreal wants it.

    Each points along +Y, so that its own axes are those of the armature.
    """
    length = max(1.0, 0.1 * float(np.ptp(pivots, axis=0).max()))
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    bones = armature.data.edit_bones
    for name, parent, head in zip(
        ["root", *names], [None, *parents], [np.zeros(3), *pivots], strict=True
    ):
        bone = bones.new(name)
        bone.head, bone.tail, bone.roll = head, head + [0, length, 0], 0
        if parent is not None:
            bone.parent = bones[names[parent] if parent >= 0 else "root"]
    bpy.ops.object.mode_set(mode="OBJECT")


def add_motion(armature, names, skin):
    """Key the bones' local `positions` `(T, B, 3)` and `rotations` `(T, B, 4)` at their frames."""
    parents, pivots = skin["parents"], skin["pivots"]
    rest = pivots - np.where(parents[:, None] >= 0, pivots[parents], 0)
    moves = (skin["positions"] - rest) * CENTIMETRES
    turns = np.roll(skin["rotations"], 1, axis=-1)  # Blender's quaternions begin with w
    for bone, name in enumerate(names):
        posed = armature.pose.bones[name]
        posed.rotation_mode = "QUATERNION"
        for frame, (move, turn) in enumerate(zip(moves[:, bone], turns[:, bone], strict=True)):
            posed.location, posed.rotation_quaternion = move, turn
            posed.keyframe_insert("location", frame=frame)
            posed.keyframe_insert("rotation_quaternion", frame=frame)
    bpy.context.scene.frame_set(0)


def export_alembic(name):
    """The moving points with texture coordinates or colours; Alembic holds no picture."""
    if not bpy.app.build_options.alembic:
        sys.stdout.write("BUILT WITHOUT ALEMBIC\n")  # blender.py looks for it
        return
    scene = bpy.context.scene
    bpy.ops.wm.alembic_export(
        filepath=here(name),
        start=scene.frame_start,
        end=scene.frame_end,
        uvs=True,
        vcolors=True,
        normals=False,  # 28 instead of 5 MB, and every reader can compute them
        orcos=False,
    )


def export_fbx(name, last, picture):
    """All meshes and armatures; with its defaults this exporter loses or simplifies motion."""
    bpy.ops.export_scene.fbx(
        filepath=here(name),
        object_types={"MESH", "ARMATURE"},
        mesh_smooth_type="FACE",
        add_leaf_bones=False,
        bake_anim=last > 0,
        bake_anim_use_all_actions=False,
        bake_anim_use_nla_strips=False,
        bake_anim_simplify_factor=0.0,
        path_mode="COPY",
        embed_textures=picture is not None,
    )


def here(name):
    """An absolute path of a file in this folder, which FBX stores: it shows nothing of our disk."""
    return os.path.join("/proc/self/cwd" if os.path.isdir("/proc/self/cwd") else os.getcwd(), name)


def to_blender(points):
    """glTF's +Y up, front +Z to Blender's +Z up, front -Y: a rotation, so nothing is mirrored."""
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=-1)


if __name__ == "__main__":
    main(sys.argv[sys.argv.index("--") + 1 :])
