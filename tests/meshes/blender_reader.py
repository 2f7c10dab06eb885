"""Runs inside Blender: imports files as a user would, and writes what they contain to files.

`... blender_reader.py -- <timesteps> <fps> <file>...` with .glb, .fbx, .abc or .usdz files; what is
found goes to <file>.npz. Vertices are in the world, at k / fps seconds, and turned back into glTF's
axes. Ends with NO_USD where it cannot.
"""

# mypy: ignore-errors

import sys

import bpy
import numpy as np

NO_USD = 77
FBX_SECOND = 46_186_158_000
"""Of the units in which FBX counts time."""


def main(timesteps, fps, *paths):
    for path in paths:
        np.savez(f"{path}.npz", **read(path, int(timesteps), float(fps)))


def read(path, timesteps, fps):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.preferences.addon_enable(module="io_scene_fbx")
    bpy.ops.preferences.addon_enable(module="io_scene_gltf2")
    if path.endswith(".fbx"):
        bpy.ops.import_scene.fbx(filepath=path, anim_offset=0.0)
    elif path.endswith(".abc"):
        bpy.ops.wm.alembic_import(filepath=path)
    elif path.endswith(".glb"):
        np.bool = bool  # Debian's Blender 3.4 uses the old name, which its numpy no longer has
        bpy.ops.import_scene.gltf(filepath=path)
    elif bpy.app.build_options.usd:
        bpy.ops.wm.usd_import(filepath=path)
    else:
        sys.exit(NO_USD)
    # a glTF importer adds a small mesh that it draws bones with, in a collection named so
    hidden = bpy.data.collections.get("glTF_not_exported")
    meshes = [thing for thing in bpy.data.objects if thing.type == "MESH" and thing.users_scene]
    (subject,) = [thing for thing in meshes if hidden not in thing.users_collection]
    scene = bpy.context.scene
    if path.endswith(".usdz"):
        scene.render.fps = round(fps)  # a time code is a frame to Blender, whatever its rate
    rate = scene.render.fps / scene.render.fps_base
    mesh = subject.data
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    arrays = {
        "faces": corners.reshape(-1, 3),
        "fps": rate,
        "vertices": np.stack([seen(subject, k / fps * rate) for k in range(timesteps)]),
        "pictures": [image.name for image in bpy.data.images if image.size[0] > 0],
        "bones": [bone.name for armature in bpy.data.armatures for bone in armature.bones],
    }
    if mesh.uv_layers:
        uv = np.empty(2 * len(mesh.loops), np.float32)
        mesh.uv_layers[0].data.foreach_get("uv", uv)
        arrays["uv"] = uv.reshape(-1, 2)
    if mesh.color_attributes:
        layer = mesh.color_attributes[0]
        colors = np.empty(4 * len(layer.data), np.float32)
        layer.data.foreach_get("color", colors)
        arrays["colors"] = colors.reshape(-1, 4)
        arrays["colors_of"] = layer.domain
    return arrays | (fbx_facts(path) if path.endswith(".fbx") else {})


def fbx_facts(path):
    """What the importer hides: the clips' names, the keys' times (s) and the scales of the nodes.

    The importer turns and scales nodes, and moves keys.
    """
    from io_scene_fbx import parse_fbx

    elements, at = [parse_fbx.parse(path)[0]], 0
    while at < len(elements):
        elements += [inner for inner in elements[at].elems if inner is not None]
        at += 1
    times = [element.props[0] for element in elements if element.id == b"KeyTime"]
    values = [element.props for element in elements if element.id == b"P"]
    stacks = [element.props[1] for element in elements if element.id == b"AnimationStack"]
    return {
        "clips": [name.split(b"\0")[0].decode() for name in stacks],
        "key_times": np.unique(np.concatenate([np.asarray(each) for each in times])) / FBX_SECOND,
        "turns": [props[4:] for props in values if props[0] == b"Lcl Rotation"],
        "scales": [props[4:] for props in values if props[0] == b"Lcl Scaling"],
    }


def seen(subject, frame):
    """Vertices `(V, 3)` in the world at this frame; +Z up, front -Y becomes +Y up, front +Z."""
    whole = int(np.floor(frame + 1e-6))
    bpy.context.scene.frame_set(whole, subframe=max(0.0, frame - whole))
    evaluated = subject.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    local = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", local)
    placed = (
        np.array(evaluated.matrix_world)
        @ np.c_[local.reshape(-1, 3), np.ones(len(mesh.vertices))].T
    )
    evaluated.to_mesh_clear()
    return np.stack([placed[0], placed[2], -placed[1]], axis=-1)


if __name__ == "__main__":
    main(*sys.argv[sys.argv.index("--") + 1 :])
