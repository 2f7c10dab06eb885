"""Gives every frame an alpha channel: its own if it has a usable one, else RMBG's.

Upstream processes frames one by one; here frames without alpha are processed in batches, the error
for a frame without a subject has its number, and RMBG's masks are checked. Crops nothing. Called by
driver.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound
from subject.mask_check import MaskCheck, frames_moving_outside
from video.clip import Clip

RMBG_BATCH = 4
"""Frames of 1024 x 1024 at once: about 2 GB of activations."""

_check_thread = ThreadPoolExecutor(1, thread_name_prefix="mask-check")


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


def with_alpha_of(pictures: Sequence[Any], clip: Clip) -> Clip:
    """The clip with the alpha channels of these RGBA pictures."""
    return clip.with_alpha(np.stack([np.array(each.getchannel("A")) for each in pictures]))


@contextmanager
def measured(remover: Any) -> Iterator[list[float]]:
    """Inside it, how decided RMBG is in each frame is added to the list.

    Measured before upstream stretches its output to 0..1 and cuts it in two: a mask that was faint
    everywhere looks as sharp afterwards as a sure one.
    """
    decided: list[float] = []

    def measure(_model: Any, _given: Any, out: Any) -> None:
        decided.extend(_decidedness(mask) for mask in out[0][0])

    hook = remover.model.register_forward_hook(measure)
    try:
        yield decided
    finally:
        hook.remove()


def start_check(clip: Clip, decided: list[float]) -> Future[MaskCheck] | None:
    """Check RMBG's masks in a thread, beside the GPU's work; None if it made none."""
    if not decided:
        return None

    def check() -> MaskCheck:
        frames = np.ascontiguousarray(clip.frames[..., :3])
        outside = frames_moving_outside(frames, clip.frames[..., 3])
        return MaskCheck(float(np.mean(decided)), outside)

    return _check_thread.submit(check)


def _decidedness(mask: Any) -> float:
    """Of probabilities, a tensor, where they exceed 0.1: 1 if all are 1, 0 if all are one half."""
    import torch

    maybe = mask[mask > 0.1].float()
    return 1 - 2 * float(torch.minimum(maybe, 1 - maybe).mean()) if maybe.numel() else 0.0


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
