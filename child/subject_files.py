"""Writes which pixels are the subject, a strip for people and masks for programs; reads the masks.

subject.webp shows some frames side by side, everything but the subject dimmed. masks.zip holds one
mask per frame, as large as the source's frames, so that it can be sent back as their alpha. Called
by child/reporter.py and child/appearance.py. Writing raises OSError, and cv2.error if a picture
cannot be encoded.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from job.subject_choice import as_text
from meshes.archive import write_zip
from meshes.atomic_file import atomic_file
from video.clip import Clip
from video.cores import in_order

STRIP_PX = 180
"""Height of the strip; less for frames that are wider than all of it."""
MOST_FRAMES = 8
MOST_WIDTH_PX = 2600
MOST_BYTES = 100_000
QUALITIES = (85, 75, 60, 45, 30)
"""WebP's, tried in this order until the strip is small enough."""

_GAP_PX = 4
_GAP = (24, 24, 24)
_DIMMED = 0.42

Picture = NDArray[np.uint8]


def write_strip(clip: Clip, path: Path) -> None:
    """Write a WebP of up to MOST_FRAMES frames, spread over the clip."""
    strip = np.concatenate(list(_panels(clip)), axis=1)
    for quality in QUALITIES:
        content = _encoded(".webp", strip[..., ::-1], cv2.IMWRITE_WEBP_QUALITY, quality)
        if len(content) <= MOST_BYTES:
            break
    with atomic_file(path) as part:
        part.write_bytes(content)


def write_masks(clip: Clip, path: Path, tick: Callable[[], None] = lambda: None) -> None:
    """Write a zip of 8-bit PNGs, one per frame: 255 is the subject. The same bytes each time.

    Raises what `tick` raises, which is called before each frame.
    """
    write_zip(_masks(clip, tick), path)


class DamagedMasks(ValueError):
    """masks.zip is not as `write_masks` wrote it, or belongs to other frames."""


def read_masks(path: Path, clip: Clip, tick: Callable[[], None] = lambda: None) -> Picture:
    """What `write_masks` wrote of this clip, at its frames' size: uint8 `(T, H, W)`.

    Raises FileNotFoundError, DamagedMasks, and what `tick` raises, which is called before each
    mask.
    """
    count, height, width, _ = clip.frames.shape
    alpha = np.empty((count, height, width), np.uint8)
    try:
        with zipfile.ZipFile(path) as masks:
            if masks.namelist() != [_mask_name(k) for k in range(count)]:
                raise DamagedMasks(f"{path.name} has {len(masks.namelist())} masks, not {count}")
            for k in range(count):
                tick()
                content = np.frombuffer(masks.read(_mask_name(k)), np.uint8)
                mask = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
                if mask is None or mask.shape != (clip.source.height, clip.source.width):
                    raise DamagedMasks(f"{_mask_name(k)} is no mask of these frames")
                alpha[k] = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, cv2.error) as exc:
        raise DamagedMasks(f"{path.name} cannot be read") from exc
    return alpha


def first_box(clip: Clip) -> str | None:
    """The box around the subject in the first frame, as `subject_box` takes it; None without."""
    alpha = clip.frames[0, ..., 3]
    x, y, width, height = cv2.boundingRect((alpha > 127).astype(np.uint8))
    if not width:
        return None
    across, down = alpha.shape[1], alpha.shape[0]
    return as_text((x / across, y / down, (x + width) / across, (y + height) / down))


def _panels(clip: Clip) -> Iterator[Picture]:
    """The pictures of the strip, RGB `(h, w, 3)`, with gaps between."""
    count, height, width, _ = clip.frames.shape
    scale = min(STRIP_PX / height, MOST_WIDTH_PX / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    fitting = (MOST_WIDTH_PX + _GAP_PX) // (size[0] + _GAP_PX)
    most = max(1, min(MOST_FRAMES, count, fitting))
    gap = np.full((size[1], _GAP_PX, 3), _GAP, np.uint8)
    for place, k in enumerate(np.linspace(0, count - 1, most).round().astype(int)):
        if place:
            yield gap
        yield _panel(clip.frames[k], size)


def _panel(frame: Picture, size: tuple[int, int]) -> Picture:
    """One RGBA frame at this size: grey and dark but for the subject, which has a white outline."""
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    colours, alpha = small[..., :3], small[..., 3:] / 255
    grey = colours @ np.array([0.299, 0.587, 0.114], np.float32)
    picture = colours * alpha + _DIMMED * grey[..., None] * (1 - alpha)
    outline = cv2.dilate(alpha, np.ones((3, 3)))[..., None] - alpha
    return np.asarray((picture + outline * (255 - picture)).round(), np.uint8)


def _masks(clip: Clip, tick: Callable[[], None]) -> Iterator[tuple[str, bytes]]:
    """Names and PNGs."""
    size = clip.source.width, clip.source.height
    how = cv2.INTER_LINEAR if size[0] > clip.frames.shape[2] else cv2.INTER_AREA

    def png(k: int) -> bytes:
        mask = cv2.resize(np.ascontiguousarray(clip.frames[k, ..., 3]), size, interpolation=how)
        return _encoded(".png", mask, cv2.IMWRITE_PNG_COMPRESSION, 4)

    tick()
    for k, content in enumerate(in_order(png, range(len(clip)))):
        yield _mask_name(k), content
        tick()


def _mask_name(k: int) -> str:
    return f"mask_{k:03d}.png"


def _encoded(suffix: str, picture: Picture, option: int, value: int) -> bytes:
    content: bytes = cv2.imencode(suffix, picture, [option, value])[1].tobytes()
    return content
