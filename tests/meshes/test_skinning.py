"""fit_skin finds bones that move a mesh as its vertices move, or says by how much they do not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from errors import Cancelled
from meshes.skin import Skin
from meshes.skinning import FittedSkin, fit_skin
from tests.meshes.bending_tube import bending_tube
from tests.meshes.walking_animal import walking_animal

Vertices = NDArray[np.float32]


def fitted(vertices: Vertices) -> FittedSkin:
    """The skin, and the law that holds for each: its numbers are those that Skin.pose gives."""
    found = fit_skin(vertices, ignored)
    first = vertices[0].astype(np.float64)
    size = float(np.linalg.norm(np.ptp(first, axis=0))) or 1.0
    posed = np.stack([found.skin.pose(vertices[0], t) for t in range(len(vertices))])
    errors = np.linalg.norm(posed - vertices, axis=2) / size
    rms = float(np.sqrt((errors**2).mean()))
    assert found.rms == pytest.approx(rms, rel=1e-3, abs=1e-7)
    assert found.largest == pytest.approx(errors.max(), rel=1e-3, abs=1e-7)
    assert found.p99 == pytest.approx(np.quantile(errors, 0.99), rel=1e-3, abs=1e-7)
    assert errors[0].max() < 1e-6, "timestep 0 is the rest pose"
    return found


def ignored(_: float) -> None:
    """Progress that nobody wants."""


def moved_as_one(points: Vertices, steps: int = 6) -> Vertices:
    turns = Rotation.from_rotvec(np.linspace(0, 2, steps)[:, None] * [0.3, 1.0, 0.2])
    shifts = np.linspace(0, 3, steps)[:, None] * [1.0, 0.0, -0.5]
    moved = np.einsum("tij,vj->tvi", turns.as_matrix(), points) + shifts[:, None]
    return np.asarray(moved, np.float32)


def test_two_bones_are_found_again() -> None:
    sequence, _ = bending_tube(12)
    found = fitted(sequence.vertices)
    assert found.is_exact and found.rms < 0.0005
    assert 2 <= len(found.skin.parents) <= 8


def test_a_walking_animal_becomes_a_skin_whose_seams_stay_closed() -> None:
    sequence = walking_animal(8, 40)
    found = fitted(sequence.vertices)
    assert found.is_exact
    _, place = np.unique(sequence.vertices[0], axis=0, return_inverse=True)
    place = place.ravel()
    assert len(place) > place.max() + 1, "there is a seam"
    pairs = np.concatenate([found.skin.joints, found.skin.weights], axis=1)
    for there in range(place.max() + 1):
        assert (pairs[place == there] == pairs[place == there][0]).all()


@pytest.mark.parametrize("steps", [1, 6])
def test_a_still_clip_has_one_bone(steps: int) -> None:
    points = walking_animal(1, 20).vertices
    found = fitted(points.repeat(steps, axis=0))
    assert len(found.skin.parents) == 1 and found.largest < 1e-6


def test_a_rigid_clip_has_one_bone() -> None:
    found = fitted(moved_as_one(walking_animal(1, 20).vertices[0]))
    assert len(found.skin.parents) == 1 and found.largest < 1e-6


def test_a_small_motion_is_not_taken_for_none() -> None:
    """Within the limits of an exact skin, a mesh that stands still would be one of it."""
    vertices = walking_animal(1, 20).vertices.repeat(6, axis=0)
    size = np.linalg.norm(np.ptp(vertices[0], axis=0))
    vertices[:, :40, 0] += 0.01 * size * np.sin(np.arange(6))[:, None]
    found = fitted(vertices)
    assert len(found.skin.parents) > 1 and found.is_exact


def test_a_ripple_is_not_exact_and_its_error_says_so() -> None:
    vertices = walking_animal(1, 40).vertices.repeat(8, axis=0)
    phase = 30 * vertices[0, :, :2] - np.arange(8)[:, None, None]
    vertices[1:, :, 1:] += 0.2 * np.sin(phase[1:])
    found = fitted(vertices)
    assert not found.is_exact and not found.is_usable
    assert found.rms > 0.003


def test_limits_of_exact_and_usable() -> None:
    skin = bending_tube()[1]
    assert FittedSkin(skin, 0.002, 0.005, 0.015).is_exact
    for over in ((0.0021, 0.005, 0.015), (0.002, 0.0051, 0.015), (0.002, 0.005, 0.0151)):
        assert not FittedSkin(skin, *over).is_exact and FittedSkin(skin, *over).is_usable
    assert not FittedSkin(skin, 0.0031, 0.005, 0.015).is_usable
    assert not FittedSkin(skin, 0.002, 0.005, 0.031).is_usable


def same(one: Skin, other: Skin) -> bool:
    return all(
        np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def test_the_same_vertices_give_the_same_skin() -> None:
    vertices = walking_animal(6, 24).vertices
    assert same(fit_skin(vertices, ignored).skin, fit_skin(vertices.copy(), ignored).skin)


def test_progress_never_falls_and_ends_at_one() -> None:
    told: list[float] = []
    fit_skin(walking_animal(6, 40).vertices, told.append)
    assert told[0] >= 0 and told[-1] == 1
    assert all(before <= after for before, after in pairwise(told))


def test_a_cancel_leaves_the_work() -> None:
    told: list[float] = []

    def cancel(done: float) -> None:
        told.append(done)
        if len(told) == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        fit_skin(walking_animal(6, 40).vertices, cancel)
    assert len(told) == 5


def degenerate() -> dict[str, Vertices]:
    points = np.random.default_rng(0).normal(size=(5, 60, 3)).astype(np.float32)
    animal = walking_animal(5, 16).vertices
    flat = np.tile(points[:1], (5, 1, 1))
    flat[..., 2] = 0
    flat[1::2, :, 0] *= -1
    line, far = points.copy(), np.full((5, 1, 3), 1e4, np.float32)
    line[..., 1:] = 0
    return {
        "one vertex": points[:, :1],
        "two vertices": points[:, :2],
        "four vertices": points[:, :4],
        "all in one place": np.ones((5, 9, 3), np.float32),
        "no size at first": np.concatenate([0 * points[:1], points[1:]]),
        "in a line": line,
        "in a plane, mirrored": flat,
        "noise": points,
        "far away": animal + np.float32(1000),
        "one vertex far away": np.concatenate([animal, far], axis=1),
        "unused vertices": np.concatenate([animal, points], axis=1),
    }


@pytest.mark.parametrize("name", degenerate())
def test_degenerate_meshes_become_valid_skins(name: str) -> None:
    found = fit_skin(degenerate()[name], ignored)
    assert np.isfinite([found.rms, found.p99, found.largest]).all()
    assert (found.skin.joints[found.skin.weights == 0] == 0).all()


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e30])
def test_the_size_of_a_mesh_does_not_matter(size: float) -> None:
    vertices = walking_animal(5, 16).vertices
    usual = fit_skin(vertices, ignored)
    scaled = fit_skin(vertices * np.float32(size), ignored)
    assert scaled.is_exact and len(scaled.skin.parents) == len(usual.skin.parents)
    assert scaled.rms == pytest.approx(usual.rms, rel=0.05)
