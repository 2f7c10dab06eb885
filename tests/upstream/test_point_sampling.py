"""Farthest point sampling (upstream/user_mesh.py) against a plain reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


def reference(points: NDArray[np.float32], count: int, start: int) -> list[int]:
    """The definition: next is the point whose nearest chosen one is farthest."""
    chosen = [start]
    while len(chosen) < count:
        apart = np.linalg.norm(points[:, None] - points[chosen][None], axis=2).min(axis=1)
        chosen.append(int(apart.argmax()))
    return chosen


@pytest.mark.parametrize(("count", "start"), [(1, 3), (17, 0), (64, 63), (64, 5)])
def test_each_point_is_the_farthest_from_the_previous_ones(
    opened: Path, count: int, start: int
) -> None:
    import torch

    from upstream.user_mesh import farthest_points

    points = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    chosen = farthest_points(torch.from_numpy(points), count, start)
    assert chosen.tolist() == reference(points, count, start)


def test_no_value_is_read_back_while_points_are_chosen(opened: Path) -> None:
    """Which a GPU would have to be waited for: tensors without values refuse it."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from upstream.user_mesh import farthest_points

    with FakeTensorMode():
        assert farthest_points(torch.zeros(64, 3), 5).shape == (5,)


def test_more_points_than_there_are_is_an_error(opened: Path) -> None:
    import torch

    from upstream.user_mesh import farthest_points

    with pytest.raises(ValueError, match="5 of 4"):
        farthest_points(torch.zeros(4, 3), 5)
