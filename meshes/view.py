"""View: where a video was filmed from, in its mesh's space. Fits nothing and draws nothing.

appearance/fit.py finds it; a pipeline that knows it gives it with its meshes. gltf.py stores it as
a camera, preview.py looks through it, and the job shows `to_dict`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["constant", "centred", "exact"]
"""One camera for all timesteps; one that follows the subject; or known, not fitted."""

_RANGE = 100.0


@dataclass(frozen=True)
class View:
    """A camera for each timestep: one orientation, one focal length, a position for each.

    The rows of `axes` float64 `(3, 3)` are the camera's right, up and backward directions in the
    mesh's space; `eyes` float64 `(T, 3)` are its positions. `centre` `(3,)` is the middle of the
    box around all timesteps' vertices. Pictures are `width` x `height` px; the optical axis goes
    through their middle. `focal` is in px, for an orthographic camera px per unit of the mesh.
    Raises ValueError for other shapes, values that are not finite, or axes that are no rotation.
    """

    axes: NDArray[np.float64]
    eyes: NDArray[np.float64]
    centre: NDArray[np.float64]
    focal: float
    width: int
    height: int
    kind: Kind = "constant"
    is_orthographic: bool = False

    def __post_init__(self) -> None:
        shapes = self.axes.shape, self.eyes.shape[1:], self.centre.shape
        if shapes != ((3, 3), (3,), (3,)) or len(self.eyes) < 1 or self.eyes.ndim != 2:
            raise ValueError(f"a view needs axes (3, 3), eyes (T, 3), centre (3,), not {shapes}")
        numbers = (self.axes, self.eyes, self.centre, np.float64(self.focal))
        if not all(np.isfinite(values).all() for values in numbers):
            raise ValueError("a view holds values that are not finite")
        if not np.allclose(self.axes @ self.axes.T, np.eye(3), atol=1e-6) or not (
            np.linalg.det(self.axes) > 0
        ):
            raise ValueError("a view's axes are not a rotation")
        if self.focal <= 0 or self.width < 1 or self.height < 1:
            raise ValueError("a view needs a focal length and a picture")
        if self.kind not in get_args(Kind):
            raise ValueError(f"a view is one of {get_args(Kind)}, not {self.kind!r}")

    def project(self, points: NDArray[Any], t: int = 0) -> NDArray[np.float64]:
        """Picture points `(N, 2)` of points `(N, 3)` before timestep `t`'s camera.

        In px from the picture's upper left corner, x to the right and y down: the middle of the
        first pixel is (0.5, 0.5).
        """
        in_camera = (points - self.eyes[t]) @ self.axes.T
        depth = 1.0 if self.is_orthographic else -in_camera[:, 2:]
        plane = in_camera[:, :2] / depth * (self.focal, -self.focal)
        return np.asarray(plane + (self.width / 2, self.height / 2))

    def matrix(self, t: int = 0) -> NDArray[np.float64]:
        """`(3, 4)`: maps x, y, z, 1 to u w, v w, w, where u, v is what `project` gives."""
        to_camera = np.column_stack([self.axes, -self.axes @ self.eyes[t]])
        if self.is_orthographic:
            to_camera[2] = (0, 0, 0, -1)
        f, x, y = self.focal, self.width / 2, self.height / 2
        return np.asarray(np.array([[f, 0, -x], [0, -f, -y], [0, 0, -1]]) @ to_camera)

    def scaled_to(self, width: int, height: int) -> View:
        """The same view in pictures of another size with the same proportions."""
        return replace(self, width=width, height=height, focal=self.focal * width / self.width)

    @property
    def is_moving(self) -> bool:
        """True if the timesteps' cameras are at different positions."""
        return bool((self.eyes != self.eyes[0]).any())

    @property
    def clipping_range(self) -> tuple[float, float]:
        """From where to where a file's camera shows things: its distance by and times a hundred."""
        distance = float(np.linalg.norm(self.eyes - self.centre, axis=1).max()) or 1.0
        return distance / _RANGE, distance * _RANGE

    def to_dict(self, t: int = 0) -> dict[str, Any]:
        """Timestep `t`'s camera as the job shows the first one: docs/api.md describes the fields.

        `azimuth` and `elevation`, in degrees, say where the camera stands, seen from `centre`:
        azimuth 0 is the front (+Z), 90 is +X. `roll` is how far the camera is turned clockwise
        around its axis.
        """
        towards = self.axes[2] if self.is_orthographic else self.eyes[t] - self.centre
        distance = float(np.linalg.norm(towards))
        azimuth = np.degrees(np.arctan2(towards[0], towards[2]))
        elevation = np.degrees(np.arcsin(np.clip(towards[1] / distance, -1, 1)))
        roll = np.degrees(np.arctan2(-self.axes[0, 1], self.axes[1, 1]))
        is_far = self.is_orthographic
        return {
            "kind": self.kind,
            "azimuth": round(float(azimuth), 2),
            "elevation": round(float(elevation), 2),
            "roll": round(float(roll), 2),
            "distance": None if is_far else round(distance, 4),
            "focal": None if is_far else round(self.focal, 2),
            "centre": [round(float(value), 5) for value in self.centre],
            "matrix": [[round(float(value), 6) for value in row] for row in self.matrix(t)],
        }
