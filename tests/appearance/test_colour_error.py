"""What `make quality` calls the true colours, and how it judges a texture. Needs TEST_MEDIA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.colour_error import colour_error, light, seen_points, surface_points, true_albedo
from benchmarks.truth import Truth, load_truth
from meshes.sequence import MeshSequence, Texture
from meshes.texture import decode_texture


@pytest.fixture(scope="module", params=["fox_walk", "robot_dance"])
def truth(request: pytest.FixtureRequest, test_media: Path) -> Truth:
    """One with a texture, one with vertex colours."""
    return load_truth(test_media, request.param)


def test_true_colours_under_the_clips_light_are_those_of_its_frames(truth: Truth) -> None:
    t, meshes, frames = 8, truth.meshes, truth.clip.frames.astype(np.float32)
    points = surface_points(meshes, 5_000)
    lit = true_albedo(meshes, points) * light(meshes, t, points)[:, None]
    alone = MeshSequence(meshes.vertices[t : t + 1], meshes.faces, meshes.fps)
    is_seen = seen_points(alone, truth.view.eyes[t : t + 1], points)
    at = truth.view.project(points.at(meshes.faces, meshes.vertices[t])) - 0.5
    found = cv2.remap(frames[t], at[None].astype(np.float32), None, cv2.INTER_LINEAR)[0]
    inside = is_seen & (found[:, 3] > 250)
    assert 0.03 < inside.mean() < 0.6
    assert np.abs(found[inside, :3] - lit[inside]).mean() < 4


def test_a_right_texture_is_better_than_one_colour_and_a_wrong_one_is_not(
    test_media: Path,
) -> None:
    fox = load_truth(test_media, "fox_walk")
    assert fox.meshes.texture is not None
    picture = decode_texture(fox.meshes.texture, 512)
    uv = fox.meshes.texture.uv
    right, wrong = (
        colour_error(fox, replace(fox.meshes, texture=_texture(shown, uv)))
        for shown in ((picture * 0.8).astype(np.uint8), np.rot90(picture))
    )
    assert right.seen < 0.6 * right.flat_seen and right.unseen < 0.6 * right.flat_unseen
    assert wrong.seen > wrong.flat_seen


def _texture(picture: NDArray[np.uint8], uv: NDArray[np.float32]) -> Texture:
    encoded = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()
    return Texture(encoded, "image/png", uv)
