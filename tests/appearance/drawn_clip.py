"""Clips of meshes, drawn through a known View: each pixel is what one ray through it hits."""

from __future__ import annotations

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from meshes.sequence import MeshSequence
from meshes.view import View
from video.clip import Clip, SourceFacts


def drawn_clip(meshes: MeshSequence, view: View) -> Clip:
    """What the camera sees: the vertices' colours, grey if they have none; alpha 255 or 0."""
    count = len(meshes)
    frames = np.zeros((count, view.height, view.width, 4), np.uint8)
    for t in range(count):
        frames[t] = _frame(meshes, view, t)
    facts = SourceFacts(view.width, view.height, count, None, tuple(range(count)))
    return Clip(frames, meshes.fps, facts)


def view_from(
    meshes: MeshSequence,
    azimuth_deg: float,
    elevation_deg: float,
    *,
    size: tuple[int, int] = (240, 200),
    distance: float = 4.0,
    focal: float = 400.0,
    aside: tuple[float, float] = (0.0, 0.0),
) -> View:
    """An upright camera around the middle of a mesh; `aside`, in px, is where it shows that."""
    low, high = meshes.vertices.min(axis=(0, 1)), meshes.vertices.max(axis=(0, 1))
    centre = (low.astype(float) + high) / 2
    azimuth, elevation = np.radians((azimuth_deg, elevation_deg))
    level = np.cos(elevation)
    back = np.array([np.sin(azimuth) * level, np.sin(elevation), np.cos(azimuth) * level])
    right = np.array([np.cos(azimuth), 0, -np.sin(azimuth)])
    axes = np.stack([right, np.cross(back, right), back])
    middle = np.array([aside[0] / focal, -aside[1] / focal, -1.0]) * distance
    eyes = np.tile(centre - middle @ axes, (len(meshes), 1))
    return View(axes, eyes, centre, focal, *size, "exact")


def degrees_apart(first: View, second: View) -> float:
    """The angle between the directions in which two cameras stand, in the first timestep."""
    a, b = first.eyes[0] - first.centre, second.eyes[0] - second.centre
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


def _frame(meshes: MeshSequence, view: View, t: int) -> NDArray[np.uint8]:
    scene = EmbreeScene()
    TriangleMesh(scene, meshes.vertices[t], meshes.faces)
    rows, columns = np.mgrid[: view.height, : view.width].reshape(2, -1) + 0.5
    across, down = (columns - view.width / 2) / view.focal, (rows - view.height / 2) / view.focal
    rays = np.column_stack([across, -down, -np.ones(len(across))]) @ view.axes
    origins = np.tile(view.eyes[t].astype(np.float32), (len(rays), 1))
    hit = scene.run(origins, rays.astype(np.float32), output=True)
    cover = hit["primID"] >= 0
    pixels = np.zeros((len(rays), 4), np.uint8)
    pixels[cover] = (128, 128, 128, 255)
    if meshes.colors is not None:
        u, v = hit["u"][cover], hit["v"][cover]
        weights = np.stack([1 - u - v, u, v], axis=1)
        corners = meshes.colors[meshes.faces[hit["primID"][cover]], :3]
        pixels[cover, :3] = np.rint(np.einsum("nk,nkc->nc", weights, corners))
    return pixels.reshape(view.height, view.width, 4)
