"""The rendered views: well framed, smooth at the edges, lit from one side, on a plain background.

The tests are the same for both tracers, Embree and PyTorch3D. Without a GPU PyTorch3D tests every
face at every sample: the pictures are small.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from meshes.camera import MARGIN, Camera, ViewDirection, Window, fit_cameras, video_camera
from meshes.external_tools import ToolFailed
from meshes.normals import vertex_normals
from meshes.preview import MakeRenderer
from meshes.preview_background import background
from meshes.raytracer import make_raytracer
from meshes.sequence import MeshSequence, Texture
from tests.meshes.animal_in_view import animal_in_view
from tests.meshes.walking_animal import walking_animal

VIEWS = [ViewDirection(0, 8), ViewDirection(38, 14)]

needs_pytorch3d = pytest.mark.skipif(
    importlib.util.find_spec("pytorch3d") is None,
    reason="pytorch3d is not installed: requirements/actionmesh.txt says how it is built",
)


@pytest.fixture(params=["embree", pytest.param("pytorch3d", marks=needs_pytorch3d)])
def make_renderer(request: pytest.FixtureRequest) -> MakeRenderer:
    return make_raytracer if request.param == "embree" else _rasterizer()


def _rasterizer() -> MakeRenderer:
    import torch

    from meshes.rasterizer import make_rasterizer

    return partial(make_rasterizer, device="cuda:0" if torch.cuda.is_available() else "cpu")


def _draw(
    make_renderer: MakeRenderer, sequence: MeshSequence, cameras: list[Camera], k: int = 0
) -> list[NDArray[np.uint8]]:
    normals = vertex_normals(sequence)
    return make_renderer(sequence).render(sequence.vertices[k], normals[k], cameras)


def test_one_camera_frames_every_timestep_tightly() -> None:
    sequence = walking_animal(8, rings=40)
    cameras = fit_cameras(sequence.vertices, VIEWS, 512)
    reaches = []
    for camera in cameras:
        seen = camera.project(sequence.vertices.reshape(-1, 3)) / 512
        assert seen.min() >= MARGIN - 1e-3 and seen.max() <= 1 - MARGIN + 1e-3
        reaches.append(np.ptp(seen, axis=0).max())
    assert max(reaches) > 0.75


@pytest.mark.parametrize("is_videos", [False, True], ids=["fitted", "the video's"])
def test_a_ray_through_a_projected_point_hits_the_point(is_videos: bool) -> None:
    sequence = animal_in_view(2, rings=10, is_moving=True)
    points = sequence.vertices[1]
    (camera,) = fit_cameras(points[None], [ViewDirection(38, 14)], 256)
    if is_videos:
        assert sequence.view
        camera = video_camera(sequence.view, 1, Window(40, -30, 260), 256)
        wanted = (sequence.view.project(points, 1) - (40, -30)) * 256 / 260
        assert np.abs(camera.project(points) - wanted).max() < 0.01
    rays = camera.directions(camera.project(points))
    towards = points - camera.eye
    cosine = np.einsum("ij,ij->i", rays, towards)
    cosine /= np.linalg.norm(rays, axis=1) * np.linalg.norm(towards, axis=1)
    assert cosine.min() > 1 - 1e-6


def test_the_picture_is_not_mirrored(make_renderer: MakeRenderer) -> None:
    # a small ball at +X, +Y, +Z of the middle of a large one
    sequence = walking_animal(1, rings=24, kind="plain")
    small = sequence.vertices[0] * np.float32(0.05) + np.array([0.8, 0.9, 0.5], np.float32)
    both = np.concatenate([sequence.vertices[0] * np.float32(0.5), small])[None]
    faces = np.concatenate([sequence.faces, sequence.faces + sequence.vertices.shape[1]])
    both_sequence = MeshSequence(both, faces, 8)
    front, left = (
        camera.project(np.array([[0.8, 0.9, 0.5]], np.float32))[0]
        for camera in fit_cameras(both, [ViewDirection(0, 0), ViewDirection(90, 0)], 100)
    )
    assert front[0] > 50 and front[1] < 50  # +X is right, +Y is up
    assert left[0] < 50  # seen from +X, the front (+Z) is on the left
    (picture,) = _draw(make_renderer, both_sequence, fit_cameras(both, [ViewDirection(0, 0)], 100))
    behind = background(100)
    drawn = np.abs(picture - behind).max(axis=2) > 20
    x, y = front.astype(int)
    assert drawn[y, x] and not drawn[y, 100 - x]


@pytest.mark.parametrize("kind", ["plain", "coloured", "textured"])
def test_outlines_are_smooth_and_the_background_is_unchanged(
    make_renderer: MakeRenderer, kind: str
) -> None:
    sequence = walking_animal(2, rings=28, kind=kind)
    cameras = fit_cameras(sequence.vertices, VIEWS, 128)
    for picture in _draw(make_renderer, sequence, cameras):
        behind = background(128)
        assert np.abs(picture[:4] - behind[:4]).max() <= 1
        away = np.abs(picture - behind).max(axis=2)
        assert away.max() > 60
        # between background and subject lie mixed pixels: more than a few dozen along the outline
        mixed = (away > 12) & (away < 45)
        assert mixed.sum() > 90


def test_the_key_light_comes_from_the_upper_left(make_renderer: MakeRenderer) -> None:
    y, x = np.mgrid[:128, :128]
    sequence = walking_animal(1, rings=24, kind="plain")
    unit = sequence.vertices[0] / np.linalg.norm(sequence.vertices[0], axis=1, keepdims=True)
    ball = MeshSequence(unit[None], sequence.faces, 8)
    (picture,) = _draw(make_renderer, ball, fit_cameras(ball.vertices, [ViewDirection(0, 0)], 128))
    light = picture.astype(float).mean(axis=2)
    inside = np.hypot(x - 64, y - 64) < 45
    left, right = light[inside & (x < 50)].mean(), light[inside & (x > 78)].mean()
    top, bottom = light[inside & (y < 50)].mean(), light[inside & (y > 78)].mean()
    assert left > right + 3 and top > bottom + 10


def test_colours_that_hold_the_videos_light_stay_as_they_are(make_renderer: MakeRenderer) -> None:
    sequence = walking_animal(1, rings=28)
    assert sequence.texture
    image = cv2.imencode(".png", np.full((8, 8, 3), (60, 110, 170), np.uint8))[1].tobytes()
    flat = replace(sequence, texture=Texture(image, "image/png", sequence.texture.uv))
    cameras = fit_cameras(sequence.vertices, VIEWS, 128)
    away = []
    for meshes in (flat, replace(flat, has_baked_light=True)):
        picture = _draw(make_renderer, meshes, cameras)[0].astype(int)
        inside = picture[..., 0] - picture[..., 2] > 40  # neither background nor shadow
        away.append(np.abs(picture[inside].mean(axis=0) - (170, 110, 60)).max())
    assert away[1] < 6 < away[0], away


def test_there_is_a_shadow_under_the_subject_only(make_renderer: MakeRenderer) -> None:
    sequence = walking_animal(1, rings=28, kind="plain")
    (camera,) = fit_cameras(sequence.vertices, [ViewDirection(0, 14)], 128)
    (picture,) = _draw(make_renderer, sequence, [camera])
    darker = background(128).mean(axis=2) - picture.mean(axis=2)
    foot = int(camera.project(sequence.vertices[0])[:, 1].max())
    assert darker[foot + 1 : foot + 6].max() > 6
    assert darker[:5].max() < 1 and darker[-1:].max() < 6


def test_the_same_timestep_gives_the_same_picture(make_renderer: MakeRenderer) -> None:
    sequence = walking_animal(2, rings=20)
    cameras = fit_cameras(sequence.vertices, VIEWS, 64)
    normals = vertex_normals(sequence)
    renderer = make_renderer(sequence)
    first = renderer.render(sequence.vertices[1], normals[1], cameras)
    renderer.render(sequence.vertices[0], normals[0], cameras)
    again = renderer.render(sequence.vertices[1], normals[1], cameras)
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one, two)


def test_a_mesh_of_a_single_triangle_can_be_drawn(make_renderer: MakeRenderer) -> None:
    vertices = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]]], np.float32)
    sequence = MeshSequence(vertices, np.array([[0, 1, 2]], np.int32), 8)
    cameras = fit_cameras(vertices, [ViewDirection(0, 8), ViewDirection(180, 8)], 128)
    for picture in _draw(make_renderer, sequence, cameras):  # from its front and from its back
        assert np.abs(picture - background(128)).max() > 40
    point = MeshSequence(np.zeros((1, 3, 3), np.float32), sequence.faces, 8)
    assert np.isfinite(_draw(make_renderer, point, fit_cameras(point.vertices, VIEWS, 64))[0]).all()


@needs_pytorch3d
@pytest.mark.parametrize("kind", ["plain", "coloured", "textured"])
def test_both_renderers_draw_the_same_picture(kind: str) -> None:
    sequence = animal_in_view(2, rings=30, kind=kind, is_moving=True)
    assert sequence.view
    cameras = fit_cameras(sequence.vertices, VIEWS, 96)
    cameras.append(video_camera(sequence.view, 1, Window(40, -30, 260), 96))
    for one, two in zip(
        _draw(make_raytracer, sequence, cameras, 1),
        _draw(_rasterizer(), sequence, cameras, 1),
        strict=True,
    ):
        apart = np.abs(one.astype(int) - two)
        assert apart.mean() < 1 and np.percentile(apart, 97) <= 6  # the rest are outlines


@needs_pytorch3d
def test_what_torch_raises_is_a_failed_preview() -> None:
    from meshes.rasterizer import make_rasterizer

    sequence = walking_animal(1, rings=12)
    cameras = fit_cameras(sequence.vertices, VIEWS, 32)
    renderer = make_rasterizer(sequence, device="meta")  # holds no values
    with pytest.raises(ToolFailed, match="the GPU could not draw"):
        renderer.render(sequence.vertices[0], vertex_normals(sequence)[0], cameras)
