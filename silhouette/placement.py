"""From crop pixels to the frames' pixels, and from those to the axes of a mesh.

The way back is the mesh's view, which is exact. Called by pipeline.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from meshes.sequence import MeshSequence, Texture
from meshes.view import View
from silhouette.crop import CroppedClip
from silhouette.surface_motion import Motion
from silhouette.triangulation import Mesh
from video.clip import Clip

_DISTANCE = 4.0
"""Of the camera from the subject, which lies inside [-1, 1]. It changes no picture."""


def onto_source(cropped: CroppedClip, motion: Motion, frames: Sequence[int]) -> Motion:
    """From crop pixels of each frame to the frame's own: undoes the motion of the crop."""
    out = motion * cropped.source_px
    for k, t in enumerate(frames):
        out[k, :, :2] = cropped.to_source(t, motion[k, :, :2])
    return out


def placed_in_front(motion: Motion, inflated: Mesh, texture: Texture, clip: Clip) -> MeshSequence:
    """From the frames' pixels (y down, z away) to glTF's axes: up, towards the camera, in [-1, 1].

    Two axes are negated, so orientation stays. One shift and one scale for all timesteps; the view
    undoes them.
    """
    vertices = motion * (1, -1, -1)
    low, high = vertices.min(axis=(0, 1)), vertices.max(axis=(0, 1))
    middle, scale = (low + high) / 2, 2 * 0.999 / float((high - low).max())  # float32 stays inside
    placed = ((vertices - middle) * scale).astype(np.float32)
    view = _view(middle, scale, len(motion), clip)
    faces = inflated.triangles.astype(np.int32)
    return MeshSequence(placed, faces, clip.fps, texture=texture, view=view, has_baked_light=True)


def _view(middle: NDArray[np.float64], scale: float, timesteps: int, clip: Clip) -> View:
    """The camera of a mesh that is the frames' pixels (y up) minus `middle`, times `scale`.

    A pixel's position there is its middle; in a View's pictures (0, 0) is its upper left corner.
    """
    height, width = clip.frames.shape[1:3]
    axis = np.array([width / 2 - 0.5, 0.5 - height / 2, middle[2]])  # through the picture's middle
    eye = (axis - middle) * scale + (0, 0, _DISTANCE)
    eyes, centre = np.tile(eye, (timesteps, 1)), np.zeros(3)
    view = View(np.eye(3), eyes, centre, 1 / scale, width, height, "exact", is_orthographic=True)
    return view.scaled_to(clip.source.width, clip.source.height)
