"""Runs inside Blender: imports a file as a user would, and writes what it contains to a file.

`blender ... -P blender_reader.py -- <fbx, abc or usdz> <timesteps> <fps> <npz>`. Vertices are in
the world, at k / fps seconds, and turned back into glTF's axes. Ends with NO_USD where it cannot.
"""

# mypy: ignore-errors

import sys

import bpy
import numpy as np

NO_USD = 77


def main(path, timesteps, fps, found):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.preferences.addon_enable(module="io_scene_fbx")
    if path.endswith(".fbx"):
        bpy.ops.import_scene.fbx(filepath=path, anim_offset=0.0)
    elif path.endswith(".abc"):
        bpy.ops.wm.alembic_import(filepath=path)
    elif bpy.app.build_options.usd:
        bpy.ops.wm.usd_import(filepath=path)
    else:
        sys.exit(NO_USD)
    (subject,) = [thing for thing in bpy.data.objects if thing.type == "MESH"]
    scene = bpy.context.scene
    if path.endswith(".usdz"):
        scene.render.fps = round(float(fps))  # a time code is a frame to Blender, whatever its rate
    rate = scene.render.fps / scene.render.fps_base
    mesh = subject.data
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    arrays = {
        "faces": corners.reshape(-1, 3),
        "fps": rate,
        "vertices": np.stack([seen(subject, k / float(fps) * rate) for k in range(int(timesteps))]),
        "pictures": [image.name for image in bpy.data.images if image.size[0] > 0],
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
    np.savez(found, **arrays)


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
