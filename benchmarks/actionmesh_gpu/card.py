"""What the card can do at most: matrix products, copies, attention at the model's real shapes.

A part of the measurement, called by __main__.py. Shapes are those of 16 frames, 2048 tokens each,
and of a mesh of 20,480 vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.actionmesh_gpu.gpu import free, median_s
from benchmarks.actionmesh_gpu.part import Part

HEAD_DIM = 128
KERNELS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION")


@dataclass(frozen=True)
class Attention:
    """One attention of the model; `dtype` is torch's name of the data type."""

    what: str
    batch: int
    heads: int
    queries: int
    keys: int
    dtype: str


ATTENTIONS = (
    Attention("stage I, self", 2, 16, 32_784, 32_784, "bfloat16"),
    Attention("stage II, self", 1, 8, 32_784, 32_784, "bfloat16"),
    Attention("stage II, cross, float32", 1, 8, 20_480, 32_784, "float32"),
    Attention("stage II, cross, bfloat16", 1, 8, 20_480, 32_784, "bfloat16"),
)


def measure(part: Part) -> None:
    """Print the table. `difference` is relative, to the first kernel that takes the shape."""
    part.begin("The card", "what", "ms", "rate", "difference")
    if not part.fits("the card", 20):
        return
    _products_and_copies(part)
    for attention in ATTENTIONS:
        _attention(part, attention)
        free(part.size.device)


def _products_and_copies(part: Part) -> None:
    import torch

    device, on_gpu = part.size.device, part.size.on_gpu
    side, copied = (8192, 1 << 31) if on_gpu else (256, 1 << 20)
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    seconds = median_s(device, lambda: a @ a)
    rate = f"{2 * side**3 / seconds / 1e12:.1f} TFLOP/s"
    part.row(f"bfloat16 product, {side} x {side}", f"{1e3 * seconds:.2f}", rate, "")
    source = torch.empty(copied, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = median_s(device, lambda: target.copy_(source))
    rate = f"{2 * copied / seconds / 1e12:.2f} TB/s read and written"
    part.row(f"copy on the device, {copied >> 20} MiB", f"{1e3 * seconds:.2f}", rate, "")
    if on_gpu:
        host = torch.empty(1 << 30, dtype=torch.uint8).pin_memory()
        seconds = median_s(device, lambda: target[: 1 << 30].copy_(host, non_blocking=True))
        rate = f"{(1 << 30) / seconds / 1e9:.1f} GB/s"
        part.row("pinned host memory to the device, 1 GiB", f"{1e3 * seconds:.1f}", rate, "")


def _attention(part: Part, wanted: Attention) -> None:
    """One row for each kernel; torch refuses those that do not take the shape or the card."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    device, dtype = part.size.device, getattr(torch, wanted.dtype)
    shortened = 1 if part.size.on_gpu else 128
    tokens = wanted.keys // shortened
    shape = wanted.batch, wanted.heads, wanted.queries // shortened, HEAD_DIM
    query = torch.randn(shape, device=device, dtype=dtype)
    key = torch.randn(*shape[:2], tokens, HEAD_DIM, device=device, dtype=dtype)
    value = torch.randn_like(key)
    operations = 4 * query.numel() * tokens
    reference: Any = None
    for name in KERNELS:
        what = f"attention, {wanted.what}: {name.partition('_')[0].lower()}"
        made: list[Any] = []

        def attend(made: list[Any] = made) -> None:
            made[:] = [torch.nn.functional.scaled_dot_product_attention(query, key, value)]

        try:
            with sdpa_kernel([getattr(SDPBackend, name)]):
                seconds = median_s(device, attend)
        except RuntimeError as exc:
            part.row(what, "", f"refused: {str(exc).splitlines()[0][:60]}", "")
            continue
        reference = made[0] if reference is None else reference
        rate = f"{operations / seconds / 1e12:.1f} TFLOP/s"
        part.row(what, f"{1e3 * seconds:.1f}", rate, f"{_relative(made[0], reference):.1e}")


def _relative(made: Any, reference: Any) -> float:
    return float((made - reference).float().norm() / reference.float().norm())
