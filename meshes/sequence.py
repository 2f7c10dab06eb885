"""MeshSequence: an animated mesh with fixed topology, as arrays, and its checkpoint file.

Axes are glTF's: right-handed, +Y up; the camera of the input looks along -Z at a subject whose
front is +Z; the subject lies inside [-1, 1]. Units are arbitrary.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshes.atomic_file import atomic_file
from meshes.view import View

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

    `colors` are uint8 `(V, 4)` RGBA in linear light, as glTF's COLOR_0 is. `texture` is that of all
    timesteps; `frame_textures`, empty or T of them, are those of single timesteps, for files of one
    timestep only. `view` is where the video was filmed from, if that is known. `has_baked_light`:
    colours or texture are the video's own, light and shadow included, so no light is added when
    they are shown. Raises ValueError when shapes, types or index range are wrong or a coordinate
    is not finite.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    fps: float
    colors: NDArray[np.uint8] | None = None
    texture: Texture | None = None
    frame_textures: tuple[Texture | None, ...] = ()
    view: View | None = None
    has_baked_light: bool = False

    def __post_init__(self) -> None:
        v, f, colors = self.vertices, self.faces, self.colors
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
        if colors is not None and self.texture is not None:
            raise ValueError("a mesh has colours or a texture, not both")
        if colors is not None and (colors.dtype != np.uint8 or colors.shape != (v.shape[1], 4)):
            raise ValueError(f"colours must be uint8 ({v.shape[1]}, 4), not {colors.shape}")
        if self.frame_textures and (self.texture is None or len(self.frame_textures) != len(v)):
            raise ValueError(
                f"{len(v)} timesteps have a texture and as many of their own, or none, "
                f"not {len(self.frame_textures)}"
            )
        for texture in (self.texture, *self.frame_textures):
            uv = texture.uv if texture else None
            if uv is not None and (uv.dtype != np.float32 or uv.shape != (v.shape[1], 2)):
                raise ValueError(f"uv must be float32 ({v.shape[1]}, 2), not {uv.shape}")
        if self.view is not None and len(self.view.eyes) != len(v):
            raise ValueError(f"{len(v)} timesteps need as many views, not {len(self.view.eyes)}")

    def __len__(self) -> int:
        return int(self.vertices.shape[0])

    def texture_at(self, k: int) -> Texture | None:
        """The texture of a file that holds timestep `k` only."""
        own = self.frame_textures[k] if self.frame_textures else None
        return own or self.texture

    def arrays(self) -> dict[str, Any]:
        """All but pictures, the view, and single timesteps' textures, by the files' names."""
        arrays = {"vertices": self.vertices, "faces": self.faces, "fps": np.float64(self.fps)}
        if self.colors is not None:
            arrays["colors"] = self.colors
        if self.texture is not None:
            arrays["uv"] = self.texture.uv
        return arrays

    def save(self, path: Path) -> None:
        """Write an .npz, completely or not at all (temporary name, fsync, rename)."""
        arrays = self.arrays()
        arrays |= _texture_arrays(self.texture, "")
        for k, texture in enumerate(self.frame_textures):
            arrays |= _texture_arrays(texture, f"_{k}")
        arrays["has_baked_light"] = np.bool_(self.has_baked_light)
        if self.view is not None:
            arrays |= {f"view_{name}": np.asarray(value) for name, value in vars(self.view).items()}
        with atomic_file(path) as part, open(part, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path) -> MeshSequence:
        """Read what `save` wrote; raises ValueError on anything else."""
        try:
            with np.load(path, allow_pickle=False) as saved:
                vertices, fps, colors = saved["vertices"], float(saved["fps"]), saved.get("colors")
                own = tuple(_texture_of(saved, f"_{k}") for k in range(len(vertices)))
                texture, own = _texture_of(saved, ""), own if any(own) else ()
                view, is_baked = _view_of(saved), bool(saved.get("has_baked_light", False))
                return cls(vertices, saved["faces"], fps, colors, texture, own, view, is_baked)
        except (OSError, KeyError, EOFError, zipfile.BadZipFile) as exc:
            raise ValueError(f"not a mesh sequence: {path.name}") from exc


def _texture_arrays(texture: Texture | None, ending: str) -> dict[str, Any]:
    """The arrays of one texture, by names with this ending; none without a texture."""
    if texture is None:
        return {}
    return {
        f"uv{ending}": texture.uv,
        f"image{ending}": np.frombuffer(texture.image, np.uint8),
        f"media_type{ending}": np.frombuffer(texture.media_type.encode(), np.uint8),
    }


def _texture_of(saved: Mapping[str, Any], ending: str) -> Texture | None:
    """The inverse of `_texture_arrays`."""
    if f"image{ending}" not in saved:
        return None
    media_type = saved[f"media_type{ending}"].tobytes().decode()
    return Texture(saved[f"image{ending}"].tobytes(), media_type, saved[f"uv{ending}"])


def _view_of(saved: Mapping[str, Any]) -> View | None:
    if "view_axes" not in saved:
        return None
    fields = {name: saved[f"view_{name}"] for name in View.__dataclass_fields__}
    # single values come back as arrays without an axis
    return View(**{name: found if found.ndim else found.item() for name, found in fields.items()})
