"""Farthest point sampling and gathering in torch, instead of PyTorch3D's.

Two operations of pytorch3d.ops that ActionMesh needs to turn an uploaded mesh into a latent;
PyTorch3D needs nvcc to build. Called by user_mesh.py.
"""

from __future__ import annotations

from typing import Any


def farthest_points(points: Any, count: int, start: int = 0) -> Any:
    """Indices (count,) of points (N, D): each the farthest from all before it, `start` first.

    Eldar et al., "The farthest point strategy for progressive image sampling", 1997. O(N * count),
    on the points' own device. Raises ValueError for more points than there are.
    """
    import torch

    if not 0 < count <= len(points):
        raise ValueError(f"{count} of {len(points)} points cannot be chosen")
    points = points.float()  # squared distances overflow in float16
    nearest = torch.full((len(points),), float("inf"), device=points.device)
    chosen = torch.empty(count, dtype=torch.long, device=points.device)
    last = torch.tensor(start, device=points.device)
    for k in range(count):  # stays on the device: no value is read back
        chosen[k] = last
        nearest = torch.minimum(nearest, (points - points[last]).square().sum(dim=1))
        last = nearest.argmax()
    return chosen


def gather(points: Any, indices: Any) -> Any:
    """Points (B, N, D) at indices (B, M): (B, M, D)."""
    return points.gather(1, indices[..., None].expand(-1, -1, points.shape[-1]))
