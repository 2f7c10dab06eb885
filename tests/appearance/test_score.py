"""score_view: outlines and motion of meshes against the clip that they belong to, or do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appearance.score import score_view
from meshes.sequence import MeshSequence
from meshes.view import View
from tests.appearance.drawn_clip import drawn_clip, view_from
from tests.meshes.walking_animal import walking_animal
from video.clip import Clip, SourceFacts

TIMESTEPS = 8


def _nothing(_: float) -> None:
    pass


@pytest.fixture(scope="module")
def animal() -> MeshSequence:
    """A walking animal that sways, so that its outline moves enough to be judged."""
    walking = walking_animal(TIMESTEPS, 40, "plain")
    phase = np.arange(TIMESTEPS) / TIMESTEPS * 2 * np.pi
    vertices = walking.vertices.copy()
    vertices[..., 0] += 0.5 * np.sin(phase)[:, None] * vertices[..., 1]
    return replace(walking, vertices=vertices)


@pytest.fixture(scope="module")
def view(animal: MeshSequence) -> View:
    return view_from(animal, 20, 10, distance=6)


def test_the_meshes_of_the_clip_fit_it(animal: MeshSequence, view: View) -> None:
    seen: list[float] = []
    score = score_view(animal, drawn_clip(animal, view), view, seen.append)
    assert score.outline_worst > 0.96
    assert score.video_motion > 0.15
    assert score.motion is not None and score.motion > 0.9
    assert seen == sorted(seen) and seen[-1] == 1.0


@pytest.mark.parametrize(
    "order", [[3, 0, 6, 1, 7, 4, 2, 5], [7, 6, 5, 4, 3, 2, 1, 0], [0] * TIMESTEPS]
)
def test_another_motion_scores_near_zero(
    animal: MeshSequence, view: View, order: list[int]
) -> None:
    """Shuffled, reversed, frozen."""
    other = replace(animal, vertices=animal.vertices[order])
    score = score_view(other, drawn_clip(animal, view), view, _nothing)
    assert score.motion is not None and score.motion < 0.2
    assert score.outline_mean < 0.9
    assert score.outlines[score.worst_frame] == score.outline_worst


def test_a_clip_that_hardly_moves_is_not_judged(animal: MeshSequence, view: View) -> None:
    still = replace(animal, vertices=animal.vertices[[0] * TIMESTEPS])
    score = score_view(still, drawn_clip(still, view), view, _nothing)
    assert score.motion is None and score.video_motion == pytest.approx(0)
    assert score.outline_worst > 0.96


def test_a_mesh_that_reaches_out_of_the_subject_s_box_counts_there_too(
    animal: MeshSequence, view: View
) -> None:
    large = replace(animal, vertices=animal.vertices * 2)
    score = score_view(large, drawn_clip(animal, view), view, _nothing)
    assert score.outline_mean < 0.35


def test_an_orthographic_view_is_scored() -> None:
    """A square of 40 x 20 px in a picture of 100 x 80."""
    corners = np.array([[-2, -1, 0], [2, -1, 0], [2, 1, 0], [-2, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    square = MeshSequence(np.stack([corners, corners]), faces, 8.0)
    eyes = np.tile([0.0, 0.0, 5.0], (2, 1))
    view = View(np.eye(3), eyes, np.zeros(3), 10.0, 100, 80, "exact", is_orthographic=True)
    frames = np.zeros((2, 80, 100, 4), np.uint8)
    frames[:, 30:50, 30:70] = 255
    clip = Clip(frames, 8.0, SourceFacts(100, 80, 2, None, (0, 1)))
    assert score_view(square, clip, view, _nothing).outline_worst > 0.97
    frames[1] = np.roll(frames[1], 20, axis=1)
    moved = score_view(square, Clip(frames, 8.0, clip.source), view, _nothing)
    assert moved.outlines[0] > 0.97
    assert moved.outlines[1] == pytest.approx(1 / 3, abs=0.02)
    assert moved.worst_frame == 1
