"""The video's camera as a node of a GLB, called `video`. gltf.py adds it to every file.

glTF's cameras are as View's: they look along -Z with +Y up, and the axis is the picture's middle.
Source: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html (section 3.10).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from meshes.glb import Glb
from meshes.view import View


def add_camera(glb: Glb, view: View, t: int) -> None:
    """Add timestep `t`'s camera to the scene; the node's extras are the view's facts then."""
    node = {
        "name": "video",
        "camera": 0,
        "translation": view.eyes[t].tolist(),
        "rotation": Rotation.from_matrix(view.axes.T).as_quat().tolist(),
        "extras": {"width": view.width, "height": view.height, **view.to_dict(t)},
    }
    glb.tree["cameras"] = [_camera(view)]
    glb.tree["nodes"].append(node)
    glb.tree["scenes"][0]["nodes"].append(len(glb.tree["nodes"]) - 1)


def add_camera_motion(glb: Glb, view: View | None) -> None:
    """Move the camera in the animation, if it moves."""
    if view and view.is_moving:
        node = next(k for k, found in enumerate(glb.tree["nodes"]) if "camera" in found)
        glb.add_channel(node, "translation", view.eyes.astype(np.float32))


def _camera(view: View) -> dict[str, Any]:
    """The same for all timesteps. It has no name: importers make all names different."""
    shown = dict(zip(("znear", "zfar"), view.clipping_range, strict=True))
    wide, high = view.width / 2 / view.focal, view.height / 2 / view.focal
    if view.is_orthographic:
        return {"type": "orthographic", "orthographic": {"xmag": wide, "ymag": high, **shown}}
    shape = {"yfov": 2 * float(np.arctan(high)), "aspectRatio": view.width / view.height}
    return {"type": "perspective", "perspective": {**shape, **shown}}
