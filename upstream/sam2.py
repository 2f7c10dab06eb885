"""SAM 2 follows one subject through a clip: from a box or a point in frame 0 to masks of each.

The model is `Sam2VideoModel` of transformers (4.56 or newer). Its session is filled here, because
transformers' processors need torchvision: frames as squares, ImageNet's mean and deviation, the
prompt in that square's pixels. Called by actionmesh_wrapper.py; torch is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import SubjectChoice
from upstream.attention import BFLOAT16_FROM, capability_of, other_kernels

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of RGB from 0 to 1."""

_OBJECT = 1
"""The session's name of the only subject that is followed."""

_POINT, _TOP_LEFT, _BOTTOM_RIGHT = 1, 2, 3
"""The prompt encoder's labels: something inside the subject, and two corners of its box."""


class Sam2Unavailable(Exception):
    """SAM 2 cannot follow a subject here; the text completes "because ..."."""


def follow(
    folder: Path,
    frames: NDArray[np.uint8],
    choice: SubjectChoice,
    device: str,
    on_frame: Callable[[int], None],
) -> NDArray[np.uint8]:
    """Alpha uint8 `(T, H, W)` of the chosen subject in `frames`, uint8 `(T, H, W, 3)` RGB.

    255 is the subject, with a soft edge; all 0 in a frame where it is not seen. The model is read
    from `folder`, 0.2 GB, and not kept. `on_frame` is called with the frames done, before the first
    and after each; what it raises ends the work. Raises Sam2Unavailable, and what torch raises.
    """
    import torch

    on_frame(0)
    model = _read(folder, device).to(device)
    alphas = np.empty(frames.shape[:3], np.uint8)
    with torch.inference_mode(), other_kernels():  # cuDNN refuses some shapes
        session = _session(model, frames, choice)
        for t, alpha in enumerate(alphas):
            logits = model(session, frame_idx=t).pred_masks.float()  # (1, 1, h, w), a quarter
            whole = torch.nn.functional.interpolate(logits, alpha.shape, mode="bilinear")
            alpha[:] = (255 * whole[0, 0].sigmoid()).round().to(torch.uint8).cpu().numpy()
            on_frame(t + 1)
    return alphas


def _read(folder: Path, device: str) -> Any:
    """The model, still on the host: in bfloat16 where the GPU has it, else in float32."""
    import torch

    capability = capability_of(device)
    is_half = capability is not None and capability >= BFLOAT16_FROM
    dtype = torch.bfloat16 if is_half else torch.float32
    try:
        from transformers import Sam2VideoModel

        return Sam2VideoModel.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
    except Exception as exc:
        raise Sam2Unavailable("its weights cannot be read") from exc


def _session(model: Any, frames: NDArray[np.uint8], choice: SubjectChoice) -> Any:
    """The frames and the prompt, as transformers' processor would have put them there."""
    import torch
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    height, width = frames.shape[1:3]
    session = Sam2VideoInferenceSession(
        video_height=height,
        video_width=width,
        inference_device=model.device,
        inference_state_device=model.device,  # 3 MB a frame
        dtype=model.dtype,
    )
    side = int(model.config.image_size)
    for t, frame in enumerate(frames):
        session.add_new_frame(_square(frame, side), t)
    points, labels = _prompt(choice)
    prompt = {
        "point_coords": side * torch.tensor([[points]], dtype=torch.float32),  # (1, 1, N, 2)
        "point_labels": torch.tensor([[labels]], dtype=torch.int32),
    }
    session.add_point_inputs(session.obj_id_to_idx(_OBJECT), 0, prompt)
    session.obj_with_new_inputs = [_OBJECT]
    return session


def _square(frame: NDArray[np.uint8], side: int) -> Any:
    """float32 `(3, side, side)`, normalized; the picture's proportions are not kept."""
    import torch

    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]
    size = (side, side)
    resized = torch.nn.functional.interpolate(picture, size, mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (_MEAN, _DEVIATION))
    return (resized[0].float() / 255 - mean) / deviation


def _prompt(choice: SubjectChoice) -> tuple[list[Sequence[float]], list[int]]:
    """Points x, y in fractions of the picture, and the label of each."""
    if choice.box is not None:
        left, top, right, bottom = choice.box
        return [(left, top), (right, bottom)], [_TOP_LEFT, _BOTTOM_RIGHT]
    if choice.point is None:
        raise ValueError("a choice has a box or a point")
    return [choice.point], [_POINT]
