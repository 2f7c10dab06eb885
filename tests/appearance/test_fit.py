"""fit_view finds the camera that a clip was drawn with, and says where it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appearance.fit import NotFitted, first_frame_overlap, fit_view
from appearance.score import score_view
from meshes.sequence import MeshSequence
from tests.appearance.drawn_clip import degrees_apart, drawn_clip, view_from
from tests.meshes.walking_animal import walking_animal
from video.clip import Clip

TIMESTEPS = 3


def _nothing(_: float) -> None:
    pass


@pytest.fixture(scope="module")
def animal() -> MeshSequence:
    """It has no symmetry."""
    return walking_animal(TIMESTEPS, 40, "coloured")


@pytest.fixture(scope="module")
def ball() -> MeshSequence:
    """A sphere of one colour: it looks the same from everywhere."""
    directions = walking_animal(TIMESTEPS, 30, "plain").vertices.copy()
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    return MeshSequence(directions, walking_animal(1, 30, "plain").faces, 8.0)


@pytest.mark.parametrize(("azimuth", "elevation"), [(35, 15), (-150, 5)])
def test_the_camera_is_found_whether_it_sees_front_or_back(
    animal: MeshSequence, azimuth: float, elevation: float
) -> None:
    true = view_from(animal, azimuth, elevation)
    clip = drawn_clip(animal, true)
    fit = fit_view(animal, clip, _nothing)
    assert fit.view.kind == "constant"
    assert degrees_apart(fit.view, true) < 2.5
    assert score_view(animal, clip, fit.view, _nothing).outline_mean > 0.95
    assert not fit.is_ambiguous
    assert fit.runner_up is None or fit.runner_up < 0.95


def test_a_subject_far_from_the_picture_s_middle_is_seen_from_its_own_direction(
    animal: MeshSequence,
) -> None:
    true = view_from(animal, 30, 10, size=(480, 200), aside=(150, -20))
    fit = fit_view(animal, drawn_clip(animal, true), _nothing)
    assert degrees_apart(fit.view, true) < 2.5


def test_a_subject_that_the_picture_cuts_off_is_found(animal: MeshSequence) -> None:
    true = view_from(animal, 30, 10, size=(240, 110))
    clip = drawn_clip(animal, true)
    assert clip.frames[:, [0, -1], :, 3].any(axis=(0, 2)).all()
    fit = fit_view(animal, clip, _nothing)
    assert degrees_apart(fit.view, true) < 5
    assert score_view(animal, clip, fit.view, _nothing).outline_mean > 0.93


def test_the_view_is_that_of_the_source_s_pictures(animal: MeshSequence) -> None:
    clip = drawn_clip(animal, view_from(animal, 35, 15))
    clip = replace(clip, source=replace(clip.source, width=960, height=800))
    fit = fit_view(animal, clip, _nothing)
    assert (fit.view.width, fit.view.height) == (960, 800)
    assert score_view(animal, clip, fit.view, _nothing).outline_mean > 0.95


def test_a_mesh_that_walks_needs_no_camera_that_follows(animal: MeshSequence) -> None:
    way = np.linspace(0, 1, TIMESTEPS, dtype=np.float32)[:, None, None]
    walking = replace(animal, vertices=animal.vertices + way * np.array([0, 0, 1], np.float32))
    true = view_from(walking, 60, 10, size=(400, 240))
    fit = fit_view(walking, drawn_clip(walking, true), _nothing)
    assert fit.view.kind == "constant"
    assert degrees_apart(fit.view, true) < 2.5


@pytest.mark.slow
def test_a_camera_follows_a_mesh_that_stays_while_the_subject_walks(animal: MeshSequence) -> None:
    way = np.linspace(-1, 1, TIMESTEPS, dtype=np.float32)[:, None, None]
    walking = replace(animal, vertices=animal.vertices + way * np.array([0, 0, 1], np.float32))
    true = view_from(walking, 90, 10, size=(480, 240), focal=350, distance=6)
    clip = drawn_clip(walking, true)
    fit = fit_view(animal, clip, _nothing)
    assert fit.view.kind == "centred"
    assert np.ptp(fit.view.eyes, axis=0).max() > 0.5
    assert score_view(animal, clip, fit.view, _nothing).outline_mean > 0.85


@pytest.mark.slow
def test_a_mesh_that_stands_still_is_followed_and_has_no_motion(animal: MeshSequence) -> None:
    way = np.linspace(-1, 1, TIMESTEPS, dtype=np.float32)[:, None, None]
    walking = replace(animal, vertices=animal.vertices + way * np.array([0, 0, 1], np.float32))
    clip = drawn_clip(walking, view_from(walking, 40, 10, size=(480, 240), focal=350, distance=6))
    still = replace(animal, vertices=np.repeat(animal.vertices[:1], TIMESTEPS, axis=0))
    fit = fit_view(still, clip, _nothing)
    assert fit.view.kind == "centred"
    motion = score_view(still, clip, fit.view, _nothing).motion
    assert motion is None or motion < 0.2


def test_a_ball_has_no_front(ball: MeshSequence) -> None:
    fit = fit_view(ball, drawn_clip(ball, view_from(ball, 20, 10, distance=6)), _nothing)
    assert fit.is_ambiguous
    assert fit.view.axes[2, 2] > 0  # from the front


def test_colours_tell_the_back_of_a_thing_that_has_the_same_outline_from_the_front(
    ball: MeshSequence,
) -> None:
    """A flat stone that nods: on the wrong side the colours would run against its motion."""
    nodding = []
    for t in range(TIMESTEPS):
        cos, sin = np.cos(0.3 * t), np.sin(0.3 * t)
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], np.float32)
        nodding.append(ball.vertices[0] * np.array([1.0, 0.6, 0.3], np.float32) @ turn.T)
    directions = np.random.default_rng(1).normal(size=(3, 3)) * 5
    spots = np.full((len(nodding[0]), 4), 255, np.uint8)
    spots[:, :3] = 127 + 100 * np.sin(ball.vertices[0] @ directions)
    stone = MeshSequence(np.stack(nodding), ball.faces, 8.0, colors=spots)
    clip = drawn_clip(stone, view_from(stone, 180, 5, distance=20, focal=1400))
    fit = fit_view(replace(stone, colors=None), clip, _nothing)
    assert fit.view.axes[2, 2] < 0
    assert not fit.is_ambiguous


def test_frames_without_the_subject_are_left_out(animal: MeshSequence) -> None:
    true = view_from(animal, 35, 15)
    frames = drawn_clip(animal, true).frames
    frames[1, ..., 3] = 0
    clip = replace(drawn_clip(animal, true), frames=frames)
    fit = fit_view(animal, clip, _nothing)
    assert degrees_apart(fit.view, true) < 2.5
    score = score_view(animal, clip, fit.view, _nothing)
    assert score.empty == (1,) and score.outlines[1] == 0
    assert score.outline_worst > 0.9 and score.worst_frame != 1


@pytest.mark.parametrize(
    ("alpha", "reason"), [(0, "in 0 of 3 frames"), (255, "fills the whole picture")]
)
def test_a_clip_without_an_outline_is_refused(
    animal: MeshSequence, alpha: int, reason: str
) -> None:
    clip = drawn_clip(animal, view_from(animal, 0, 0, size=(80, 80)))
    frames = clip.frames.copy()
    frames[..., 3] = alpha
    with pytest.raises(NotFitted, match=reason):
        fit_view(animal, replace(clip, frames=frames), _nothing)


def test_a_clip_without_alpha_or_a_mesh_without_size_is_refused(animal: MeshSequence) -> None:
    clip = drawn_clip(animal, view_from(animal, 0, 0, size=(80, 80)))
    opaque = Clip(np.ascontiguousarray(clip.frames[..., :3]), clip.fps, clip.source)
    with pytest.raises(NotFitted, match="no alpha"):
        fit_view(animal, opaque, _nothing)
    with pytest.raises(NotFitted, match="no size"):
        fit_view(replace(animal, vertices=animal.vertices * 0), clip, _nothing)


def test_the_same_view_is_found_each_time_and_what_report_raises_ends_the_search(
    animal: MeshSequence,
) -> None:
    clip = drawn_clip(animal, view_from(animal, 35, 15))
    seen: list[float] = []
    first = fit_view(animal, clip, seen.append)
    assert (fit_view(animal, clip, _nothing).view.matrix() == first.view.matrix()).all()
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) > 100

    def stop(done: float) -> None:
        if done > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_view(animal, clip, stop)


def test_the_shape_of_the_frame_overlaps_most_with_it(animal: MeshSequence) -> None:
    alpha = drawn_clip(animal, view_from(animal, 35, 15)).frames[0, ..., 3]
    right = first_frame_overlap(animal.vertices[0], animal.faces, alpha)
    thick = first_frame_overlap(
        animal.vertices[0] * np.array([1, 0.6, 1.4], np.float32), animal.faces, alpha
    )
    assert right > 0.95 > thick
