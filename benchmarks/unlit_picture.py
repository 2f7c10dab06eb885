"""Draws a mesh with its texture only, without light or shadows. Used by appearance_sheet.py and
quality_case.py.
"""

from __future__ import annotations

import cv2
import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from meshes.camera import ViewDirection, fit_cameras
from meshes.sequence import MeshSequence
from meshes.texture import decode_texture, sample_texture
from meshes.view import View

GREY = (235, 235, 235)
"""Of the background."""
_SAMPLES = 3
"""Per pixel, in each direction."""

Picture = NDArray[np.uint8]


def drawn(meshes: MeshSequence, t: int, view: View) -> Picture:
    """The unlit texture seen through a perspective view: RGB `(H, W, 3)` on a light grey."""
    assert meshes.texture is not None
    width, height = view.width * _SAMPLES, view.height * _SAMPLES
    y, x = (np.mgrid[:height, :width] + 0.5) / _SAMPLES
    in_camera = np.stack(
        [x - view.width / 2, view.height / 2 - y, np.full_like(x, -view.focal)], axis=-1
    )
    rays = (in_camera.reshape(-1, 3) @ view.axes).astype(np.float32)
    scene = EmbreeScene()
    TriangleMesh(scene, meshes.vertices[t], meshes.faces)
    origins = np.broadcast_to(view.eyes[t].astype(np.float32), rays.shape)
    hit = scene.run(origins, rays, output=True)
    seen = np.flatnonzero(hit["primID"] >= 0)
    u, v = hit["u"][seen, None], hit["v"][seen, None]
    a, b, c = (meshes.texture.uv[corner] for corner in meshes.faces[hit["primID"][seen]].T)
    colours = np.full((len(rays), 3), GREY, np.uint8)
    picture = decode_texture(meshes.texture, 4096)
    colours[seen] = sample_texture(picture, (a * (1 - u - v) + b * u + c * v).astype(np.float32))
    large = colours.reshape(height, width, 3)
    small = cv2.resize(large, (view.width, view.height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def side_view(meshes: MeshSequence, t: int, azimuth_deg: float, size_px: int) -> View:
    """A view that shows timestep `t` from this side, a little from above."""
    [camera] = fit_cameras(meshes.vertices[t : t + 1], [ViewDirection(azimuth_deg, 8)], size_px)
    axes = np.linalg.qr(camera.axes.T.astype(float))[0].T  # float32 is no exact rotation
    axes *= np.sign(np.einsum("ij,ij->i", axes, camera.axes))[:, None]
    eyes = np.tile(camera.eye.astype(float), (len(meshes), 1))
    return View(axes, eyes, np.zeros(3), size_px / 2 / camera.slope, size_px, size_px)
