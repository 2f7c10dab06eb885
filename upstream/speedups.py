"""Speed-ups: small hooks on upstream's objects, removed afterwards. `Speedups` says which are used.

All but `bfloat16_tail` (ACTIONMESH_FAST_MATH=1) have the same mathematics: results differ by
rounding of the data type at most, and each hook has a test for that. driver.py and anchor.py apply
them around their stages; one of them is in step_graph.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUERY_ROWS = 32_768
"""Vertices that stage II's last block answers at once: half a GB for its widest buffer."""


@dataclass(frozen=True)
class Speedups:
    """Which hooks are used. With all off the arithmetic is upstream's, bit for bit."""

    crop_first: bool = True
    batched_background: bool = True
    shared_octree_kv: bool = True
    threaded_mesh: bool = True
    step_graph: bool = True
    bias_cross_attention: bool = True
    chunked_queries: bool = True
    in_place_rotation: bool = True
    bfloat16_tail: bool = False

    @classmethod
    def none(cls) -> Speedups:
        return cls(**{option.name: False for option in fields(cls)})

    def beside_compiled_blocks(self) -> Speedups:
        """Without the hooks inside the blocks: adding them for every job would recompile them."""
        return replace(self, bias_cross_attention=False, in_place_rotation=False)


def crop_first(pictures: Sequence[Any], padding_ratio: float = 0.1) -> list[Any]:
    """Upstream's ImagePreprocessor, bit for bit, but composited inside the common box only.

    RGBA pictures of one size become RGB on white, cropped to the box around all alphas, padded to a
    square. Upstream composites whole frames in float: 1.02 s against 0.09 s for 8 of 1920 x 1080.
    """
    import cv2
    from PIL import Image

    arrays = [np.asarray(picture.convert("RGBA")) for picture in pictures]
    # around everything that is not fully transparent in any frame
    x, y, width, height = cv2.boundingRect(np.max([array[..., 3] for array in arrays], axis=0))
    side = max(width, height)
    margin = int(side * padding_ratio)
    pad_x, pad_y = margin + (side - width) // 2, margin + (side - height) // 2
    done = []
    for array in arrays:
        inside = array[y : y + height, x : x + width]
        canvas = np.full((height + 2 * pad_y, width + 2 * pad_x, 3), 255, np.uint8)
        canvas[pad_y : pad_y + height, pad_x : pad_x + width] = _on_white(inside)
        done.append(Image.fromarray(canvas))
    return done


@contextmanager
def shared_octree_kv(vae: Any) -> Iterator[None]:
    """Run TripoSG's decoder self-attention once per surface, not once per chunk of query points.

    The octree decoder uses the same latent hundreds of times (280 passes become 1). Valid for one
    latent: use it around one surface.
    """
    decoder = vae.decoder
    forward = decoder.forward
    kept: list[Any] = []

    def with_kept(sample: Any, queries: Any, kv_cache: Any = None) -> Any:
        if kv_cache is None:
            if not kept:
                hidden = sample[:1]
                for block in decoder.blocks[:-1]:
                    hidden = block(hidden)
                kept.append(hidden)
            kv_cache = kept[0].expand(sample.shape[0], -1, -1)
        return forward(sample, queries, kv_cache)

    decoder.forward = with_kept
    try:
        yield
    finally:
        del decoder.forward


@contextmanager
def bias_cross_attention(denoiser: Any) -> Iterator[None]:
    """Skip cross attention where the context is zero, as in guidance's unconditional half.

    Keys and values have no bias, so that attention over a zero context gives zero and the output
    projection its bias: 2.5 % of stage I computes a constant.
    """
    forward = denoiser.forward
    attentions = [block.x_attn for block in denoiser.blocks]
    processors = [attention.processor for attention in attentions]
    zero_rows = [0]  # leading rows of the merged (batch, frame) axis whose context is zero

    def counting(*args: Any, **options: Any) -> Any:
        context = options["context"]  # (B, T, S, D)
        live = context.flatten(1).any(dim=1).tolist()
        leading = live.index(True) if True in live else len(live)
        zero_rows[0] = leading * context.shape[1]
        return forward(*args, **options)

    for attention, processor in zip(attentions, processors, strict=True):
        if attention.to_k.bias is None and attention.to_v.bias is None:
            attention.processor = _skipping(processor, zero_rows)
    denoiser.forward = counting
    try:
        yield
    finally:
        del denoiser.forward
        for attention, processor in zip(attentions, processors, strict=True):
            attention.processor = processor


@contextmanager
def in_place_rotation() -> Iterator[None]:
    """Rotate queries and keys with fewer buffers, bit for bit.

    With upstream's five float32 buffers stage I takes 8.2 GB beside its weights, so 6.6.
    """
    from actionmesh.model.utils import attention_processor as module

    original = module.apply_rotary_embedding
    module.apply_rotary_embedding = _rotated
    try:
        yield
    finally:
        module.apply_rotary_embedding = original


@contextmanager
def decoder_tail(autoencoder: Any, in_chunks: bool, in_bfloat16: bool) -> Iterator[None]:
    """Change how stage II's last block, upstream's float32 part, answers for the vertices.

    In chunks: at most QUERY_ROWS vertices at once, which do not depend on each other; a buffer for
    200,000 vertices takes 3.3 GB otherwise. In bfloat16: not exact, the vertices move by rounding.
    """
    if not (in_chunks or in_bfloat16):
        yield
        return
    answer = autoencoder.fwd_cross_attn
    if in_bfloat16:
        answer = partial(_answer_in_bfloat16, autoencoder)

    def answer_all(kv_cache: Any, queries: Any) -> Any:
        import torch

        parts = queries.split(QUERY_ROWS if in_chunks else queries.shape[1], dim=1)
        return torch.cat([answer(kv_cache, part) for part in parts], dim=1)

    autoencoder.fwd_cross_attn = answer_all
    try:
        yield
    finally:
        del autoencoder.fwd_cross_attn


def _rotated(x: Any, cos: Any, sin: Any) -> Any:
    """Upstream's `apply_rotary_embedding` of x (B, H, S, D), which it overwrites.

    Under autocast in the type to which attention casts it next.
    """
    import torch

    kind, on = x.dtype, x.device.type
    if torch.is_autocast_enabled(on):
        kind = torch.get_autocast_dtype(on)
    if cos.ndim == 3:  # (B, S, D)
        cos, sin = cos[:, None], sin[:, None]
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([imaginary, real], dim=-1)
    turned[..., 0].neg_()
    rotated = x.float().mul_(cos)
    rotated += turned.flatten(-2).float().mul_(sin)
    del turned  # before the copy in another type
    return rotated.to(kind)


def _answer_in_bfloat16(autoencoder: Any, kv_cache: Any, queries: Any) -> Any:
    """Upstream's `fwd_cross_attn` with the attention and its matrices in the stage's 16-bit type.

    What goes in and out of them, positions above all, stays float32. Error with random weights of
    the real size, in the cube [-1, 1]: .0005 rms, .002 at most.
    """
    import torch

    hidden = autoencoder.proj_query(queries)
    kind = queries.device.type
    with torch.autocast(kind, dtype=torch.get_autocast_dtype(kind)):
        hidden = autoencoder.blocks[-1](hidden, encoder_hidden_states=kv_cache)
    return -autoencoder.proj_out(autoencoder.norm_out(hidden.float()))


def _skipping(processor: Any, zero_rows: list[int]) -> Callable[..., Any]:
    # diffusers passes only the keyword arguments in a processor's signature
    def attend(
        attn: Any,
        hidden_states: Any,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,
        temb: Any = None,
    ) -> Any:
        import torch

        zeros = zero_rows[0]
        if zeros == 0:
            return processor(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        bias = attn.to_out[0].bias
        if zeros == hidden_states.shape[0]:
            kind = hidden_states.dtype
            if torch.is_autocast_enabled("cuda") and hidden_states.is_cuda:
                kind = torch.get_autocast_dtype("cuda")
            return bias.to(kind).expand(*hidden_states.shape[:-1], -1)
        live = processor(
            attn, hidden_states[zeros:], encoder_hidden_states[zeros:], attention_mask, temb
        )
        constant = bias.to(live.dtype).expand(zeros, *live.shape[1:])
        return torch.cat([constant, live])

    return attend


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same operations in the same order as upstream's `load_image`, in float32."""
    scale = np.float32(1.0 / 255.0)
    alpha = rgba[..., 3:].astype(np.float32) * scale
    mixed = rgba[..., :3].astype(np.float32) * scale * alpha + (np.float32(1.0) - alpha)
    return np.asarray((mixed * 255).astype(np.uint8))
