"""MeshSequence: an animated mesh with fixed topology, as arrays, and its checkpoint file.

Axes are glTF's: right-handed, +Y up; the camera of the input looks along -Z at a subject whose
front is +Z; the subject lies inside [-1, 1]. Units are arbitrary.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshes.atomic_file import atomic_file

MEDIA_TYPES = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}
"""The two formats of textures that glTF allows, and their first bytes."""


@dataclass(frozen=True)
class Texture:
    """An encoded picture and where each vertex lies on it.

    `image` holds the bytes of a JPEG or PNG file, embedded as they are. `uv` is float32 `(V, 2)`
    in glTF's convention: (0, 0) is the picture's upper left corner, (1, 1) its lower right.
    """

    image: bytes
    media_type: str
    uv: NDArray[np.float32]


@dataclass(frozen=True)
class MeshSequence:
    """Vertices float32 `(T, V, 3)` over faces int32 `(F, 3)`; at most one of colours and texture.

    `colors` are uint8 `(V, 4)` RGBA in linear light, as glTF's COLOR_0 is. Raises ValueError when
    shapes, types or index range are wrong or a coordinate is not finite.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    fps: float
    colors: NDArray[np.uint8] | None = None
    texture: Texture | None = None

    def __post_init__(self) -> None:
        v, f, colors = self.vertices, self.faces, self.colors
        uv = self.texture.uv if self.texture else None
        if v.dtype != np.float32 or v.ndim != 3 or v.shape[0] < 1 or v.shape[2] != 3:
            raise ValueError(f"vertices must be float32 (T, V, 3), not {v.dtype} {v.shape}")
        if f.dtype != np.int32 or f.ndim != 2 or f.shape[0] < 1 or f.shape[1] != 3:
            raise ValueError(f"faces must be int32 (F, 3), not {f.dtype} {f.shape}")
        if not np.isfinite(v).all():
            raise ValueError("vertices hold values that are not finite")
        if f.min() < 0 or f.max() >= v.shape[1]:
            raise ValueError(f"faces point outside the {v.shape[1]} vertices")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be positive, not {self.fps}")
        if colors is not None and uv is not None:
            raise ValueError("a mesh has colours or a texture, not both")
        if colors is not None and (colors.dtype != np.uint8 or colors.shape != (v.shape[1], 4)):
            raise ValueError(f"colours must be uint8 ({v.shape[1]}, 4), not {colors.shape}")
        if uv is not None and (uv.dtype != np.float32 or uv.shape != (v.shape[1], 2)):
            raise ValueError(f"uv must be float32 ({v.shape[1]}, 2), not {uv.shape}")

    def __len__(self) -> int:
        return int(self.vertices.shape[0])

    def arrays(self) -> dict[str, Any]:
        """All but the texture's picture, by the names that the files of sequences use."""
        arrays = {"vertices": self.vertices, "faces": self.faces, "fps": np.float64(self.fps)}
        if self.colors is not None:
            arrays["colors"] = self.colors
        if self.texture is not None:
            arrays["uv"] = self.texture.uv
        return arrays

    def save(self, path: Path) -> None:
        """Write an .npz, completely or not at all (temporary name, fsync, rename)."""
        arrays = self.arrays()
        if self.texture is not None:
            arrays["image"] = np.frombuffer(self.texture.image, np.uint8)
            arrays["media_type"] = np.frombuffer(self.texture.media_type.encode(), np.uint8)
        with atomic_file(path) as part, open(part, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path) -> MeshSequence:
        """Read what `save` wrote; raises ValueError on anything else."""
        try:
            with np.load(path, allow_pickle=False) as saved:
                texture = None
                if "image" in saved:
                    media_type = saved["media_type"].tobytes().decode()
                    texture = Texture(saved["image"].tobytes(), media_type, saved["uv"])
                fps, colors = float(saved["fps"]), saved.get("colors")
                return cls(saved["vertices"], saved["faces"], fps, colors, texture)
        except (OSError, KeyError, EOFError, zipfile.BadZipFile) as exc:
            raise ValueError(f"not a mesh sequence: {path.name}") from exc
