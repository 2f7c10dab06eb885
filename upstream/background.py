"""Gives every frame an alpha channel: its own if it has a usable one, else RMBG's.

Upstream processes frames one by one; here frames without alpha are processed in batches, and the
error for a frame without a subject has its number. Crops nothing. Called by driver.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound

RMBG_BATCH = 4
"""Frames of 1024 x 1024 at once: about 2 GB of activations."""


def to_pictures(frames: NDArray[np.uint8]) -> list[Any]:
    """uint8 (T, H, W, 3|4) as PIL pictures."""
    from PIL import Image

    return [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]


def remove_background(
    remover: Any, pictures: Sequence[Any], on_frame: Callable[[int, int], None], batch: int
) -> list[Any]:
    """RGBA pictures by upstream's BackgroundRemover; `on_frame(done, frames)` after each batch.

    Raises NoSubjectFound with the number of the first frame (from 1) whose foreground or background
    covers less than 1 % of it.
    """
    done = list(pictures)
    waiting = [k for k, picture in enumerate(done) if not remover._has_a_valid_alpha_mask(picture)]
    on_frame(len(done) - len(waiting), len(done))
    for start in range(0, len(waiting), batch):
        chosen = waiting[start : start + batch]
        cut = _remove_batch(remover, [done[k] for k in chosen])
        for k, picture in zip(chosen, cut, strict=True):
            done[k] = picture
        on_frame(len(done) - len(waiting) + start + len(chosen), len(done))
    _refuse_empty(done)
    return done


def _remove_batch(remover: Any, pictures: list[Any]) -> list[Any]:
    if len(pictures) == 1:
        return [remover.process_image(pictures[0])]
    import torch
    from actionmesh.preprocessing.background_removal import refine_mask
    from PIL import Image

    arrays = [np.array(picture.convert("RGB")) for picture in pictures]
    with torch.no_grad():
        inputs = [remover._preprocess_image(array).to(remover.device) for array in arrays]
        masks = remover.model(torch.cat(inputs))[0][0]  # (B, 1, 1024, 1024)
        cut = []
        for array, mask in zip(arrays, masks, strict=True):
            soft = remover._postprocess_mask(mask[None], array.shape[:2])
            alpha = refine_mask(soft)[:, :, None]
            cut.append(Image.fromarray(np.concatenate([array, alpha], axis=2)))
    return cut


def _refuse_empty(pictures: list[Any]) -> None:
    from actionmesh.preprocessing.image_processor import is_valid_alpha

    for number, picture in enumerate(pictures, start=1):
        if not is_valid_alpha(np.array(picture.convert("RGBA").getchannel("A"))):
            raise NoSubjectFound(
                f"No subject can be separated from the background in frame {number} "
                f"of the {len(pictures)} frames used.",
                frame=number,
                frames=len(pictures),
            )
