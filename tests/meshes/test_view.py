"""meshes/view.py: the video's camera as numbers, and in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meshes.sequence import MeshSequence
from meshes.view import View


def _view(*, is_orthographic: bool = False) -> View:
    """A camera at azimuth 90: it stands on +X, 4 from the middle, and looks along -X."""
    axes = np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], float)
    eyes = np.array([[4, 0, 0], [4, 0, 1]], float)
    return View(axes, eyes, np.zeros(3), 200.0, 320, 240, "centred", is_orthographic)


POINTS = np.array([[0, 0, 0], [0, 0.5, 0], [0, 0, -0.5], [1, 0.3, 0.3]])


def test_points_right_and_up_of_the_axis_are_right_and_up_in_the_picture() -> None:
    seen = _view().project(POINTS)
    assert seen[0] == pytest.approx((160, 120))
    assert seen[1] == pytest.approx((160, 120 - 25))
    assert seen[2] == pytest.approx((160 + 25, 120))
    assert seen[3] == pytest.approx((160 - 20, 120 - 20))


@pytest.mark.parametrize("is_orthographic", [False, True])
@pytest.mark.parametrize("t", [0, 1])
def test_the_matrix_is_the_projection(t: int, is_orthographic: bool) -> None:
    view = _view(is_orthographic=is_orthographic)
    mapped = np.column_stack([POINTS, np.ones(len(POINTS))]) @ view.matrix(t).T
    assert mapped[:, :2] / mapped[:, 2:] == pytest.approx(view.project(POINTS, t))


def test_it_says_where_the_camera_stands() -> None:
    shown = _view().to_dict()
    assert (shown["azimuth"], shown["elevation"], shown["roll"]) == (90, 0, 0)
    assert (shown["distance"], shown["focal"], shown["kind"]) == (4, 200, "centred")


def test_a_camera_turned_clockwise_shows_up_on_the_left() -> None:
    turn = np.radians(10)
    up_on_the_left = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    view = View(up_on_the_left, np.array([[0, 0, 4.0]]), np.zeros(3), 200.0, 320, 240)
    assert view.project(np.array([[0, 0.5, 0]]))[0, 0] < 160
    assert view.to_dict()["roll"] == pytest.approx(10)


def test_a_smaller_picture_shows_the_same() -> None:
    half = _view().scaled_to(160, 120)
    assert half.project(POINTS) == pytest.approx(_view().project(POINTS) / 2)


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    view = _view(is_orthographic=True)
    vertices = np.zeros((2, 3, 3), np.float32)
    MeshSequence(vertices, np.array([[0, 1, 2]], np.int32), 8.0, view=view).save(tmp_path / "m.npz")
    found = MeshSequence.load(tmp_path / "m.npz").view
    assert found is not None and found.kind == "centred" and found.is_orthographic is True
    assert (found.focal, found.width, found.height) == (200.0, 320, 240)
    assert np.array_equal(found.eyes, view.eyes) and np.array_equal(found.axes, view.axes)


def test_a_view_for_other_timesteps_is_refused() -> None:
    vertices = np.zeros((3, 3, 3), np.float32)
    with pytest.raises(ValueError, match="3 timesteps need as many views, not 2"):
        MeshSequence(vertices, np.array([[0, 1, 2]], np.int32), 8.0, view=_view())
