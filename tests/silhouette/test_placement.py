"""Silhouette's view is exact: through it the mesh lies on the frames that it was made from."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from meshes.sequence import MeshSequence, Texture
from silhouette.crop import crop_to_subject
from silhouette.pipeline import SilhouettePipeline
from silhouette.placement import onto_source, placed_in_front
from silhouette.triangulation import Mesh
from tests.silhouette.measure import ReportLog, as_clip
from tests.silhouette.synthetic_clips import walker, with_alpha
from video.clip import Clip


def larger_source(clip: Clip, factor: int) -> Clip:
    """The clip as if its frames had been made smaller."""
    height, width = clip.frames.shape[1:3]
    facts = replace(clip.source, width=factor * width, height=factor * height)
    return replace(clip, source=facts)


@pytest.mark.parametrize("speed", [0.0, 0.03], ids=["still crop", "moving crop"])
def test_the_view_maps_every_vertex_to_its_pixel(speed: float) -> None:
    frames, masks = walker(count=6, side=160, speed=speed, size=0.5)
    clip = larger_source(as_clip(with_alpha(frames[:, 20:140], masks[:, 20:140])), 3)
    cropped = crop_to_subject(clip.frames, 64)
    assert (np.ptp(cropped.origins, axis=0).max() > 0) == (speed > 0)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 64, (6, 50, 3))
    surface = Mesh(points[0], np.array([[0, 1, 2]]))
    texture = Texture(b"\x89PNG\r\n\x1a\n", "image/png", np.zeros((50, 2), np.float32))
    pixels = onto_source(cropped, points, range(6))
    meshes = placed_in_front(pixels, surface, texture, clip)
    view = meshes.view
    assert view and (view.width, view.height, view.kind) == (480, 360, "exact")
    for t in range(6):
        # pixel k of a frame covers [k, k + 1] in the view, three of the source's pixels
        wanted = 3 * (cropped.to_source(t, points[t, :, :2]) + 0.5)
        assert np.abs(view.project(meshes.vertices[t], t) - wanted).max() < 1e-3
    assert np.allclose(meshes.vertices.min(axis=(0, 1)), -meshes.vertices.max(axis=(0, 1)))


@pytest.mark.parametrize("speed", [0.0, 0.03], ids=["still crop", "moving crop"])
def test_the_mesh_seen_through_its_view_covers_the_alpha(speed: float) -> None:
    frames, masks = walker(count=10, side=192, speed=speed, size=0.8 if speed == 0 else 0.5)
    clip, log = as_clip(with_alpha(frames, masks)), ReportLog()
    meshes = SilhouettePipeline().animate(clip, "fast_low_ram", 44, log)
    assert meshes.view and meshes.view.is_orthographic and meshes.has_baked_light
    drawn = np.stack([_drawn(meshes, t, masks[t].shape) for t in range(len(masks))])
    overlaps = (drawn & masks).sum(axis=(1, 2)) / (drawn | masks).sum(axis=(1, 2))
    assert overlaps.mean() > 0.96 and overlaps.min() > 0.88, overlaps
    apart = np.mean([_middle(one) - _middle(two) for one, two in zip(drawn, masks, strict=True)], 0)
    assert np.abs(apart).max() < 0.25, "the view is off by half a pixel"
    assert log.anchors[0].view is None


def _drawn(meshes: MeshSequence, t: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels whose middle the mesh covers in its view."""
    assert meshes.view
    fine = meshes.view.scaled_to(8 * shape[1], 8 * shape[0])  # OpenCV also draws what it touches
    picture = np.zeros((fine.height, fine.width), np.uint8)
    corners = (fine.project(meshes.vertices[t], t) - 0.5)[meshes.faces]
    for triangle in np.round(corners * 16).astype(np.int32):
        cv2.fillConvexPoly(picture, triangle, 1, shift=4)
    return np.asarray(picture[4::8, 4::8] > 0)


def _middle(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.argwhere(mask).mean(axis=0))
