"""Real clips with true masks, from $TEST_MEDIA/davis: NAME.zip and NAME_masks.zip."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.silhouette.measure import LabelledClip, as_clip
from video.clip import Clip

Masks = NDArray[np.bool_]


def real_names(media: Path) -> list[str]:
    """The clips that have true masks."""
    ending = "_masks.zip"
    return sorted(path.name.removesuffix(ending) for path in (media / "davis").glob(f"*{ending}"))


def load_real(media: Path, name: str, count: int | None = None) -> LabelledClip:
    """A clip, or its first `count` frames."""
    frames = _pictures(media / "davis" / f"{name}.zip", cv2.IMREAD_COLOR)[:count, ..., ::-1]
    masks = _pictures(media / "davis" / f"{name}_masks.zip", cv2.IMREAD_GRAYSCALE)[:count]
    return LabelledClip(name, as_clip(np.ascontiguousarray(frames)), masks > 127)


def _pictures(archive: Path, how: int) -> NDArray[np.uint8]:
    with zipfile.ZipFile(archive) as file:
        encoded = [np.frombuffer(file.read(name), np.uint8) for name in sorted(file.namelist())]
    return np.stack([np.asarray(cv2.imdecode(picture, how), np.uint8) for picture in encoded])


def overlaps(clip: Clip, truth: Masks) -> NDArray[np.float64]:
    """IoU of each frame's alpha with its true mask."""
    found = clip.frames[..., 3] > 127
    both, either = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
    return np.asarray(both / np.maximum(either, 1), np.float64)


def box_around(mask: Masks) -> tuple[float, float, float, float]:
    """The mask's box in fractions of the frame."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    across, down = mask.shape[1], mask.shape[0]
    return left / across, top / down, (left + width) / across, (top + height) / down
