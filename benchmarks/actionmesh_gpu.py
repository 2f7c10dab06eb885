"""Compares upstream's ActionMesh with ours on this GPU: `python -m benchmarks.actionmesh_gpu`.

Full-size models with random weights, so nothing is downloaded: times and memory are real, meshes
are not (the decoder's field is replaced by a torus, since it would be noise). Prints a Markdown
table marked as synthetic. `--small` runs tiny models on the CPU, to test this program.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshes.sequence import MeshSequence
from pipeline import ACTIONMESH, CHECKOUT, ActionMeshPreset, Mode
from upstream.checkout import open_checkout
from upstream.driver import AnimationRequest, animate
from upstream.engine import Engine, build, disable_output
from upstream.speedups import Speedups, compile_blocks
from upstream.weights import Folders
from video.clip import Clip, SourceFacts

STAGES = ("background", "shape", "motion", "decoding")
_MODES: tuple[Mode, ...] = ("fast", "default")


@dataclass(frozen=True)
class Size:
    """Arguments of upstream's constructors; none for the published sizes, their defaults."""

    denoiser: dict[str, Any] = field(default_factory=dict)
    autoencoder: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)
    transformer: dict[str, Any] = field(default_factory=dict)
    dino: dict[str, Any] = field(
        default_factory=lambda: {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 518,
            "patch_size": 14,
        }
    )
    picture: int = 224
    octree_depth: int = 9
    frame: tuple[int, int] = (1080, 1920)
    presets: Mapping[Mode, ActionMeshPreset] = field(default_factory=lambda: ACTIONMESH)


FULL = Size()
SMALL = Size(
    denoiser={
        "num_tokens_nominal": 64, "in_channels": 8, "num_layers": 3, "num_attention_heads": 2,
        "width": 64, "cross_attention_dim": 32, "inflated_layers": (0, 1, 2),
    },
    autoencoder={"latent_channels": 8, "width": 64, "num_layers": 2, "num_attention_heads": 2},
    vae={
        "latent_channels": 8, "num_attention_heads": 2, "width_encoder": 32, "width_decoder": 64,
        "num_layers_encoder": 1, "num_layers_decoder": 2,
    },
    transformer={
        "num_attention_heads": 2, "width": 64, "in_channels": 8, "num_layers": 3,
        "cross_attention_dim": 32,
    },
    dino={
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 70,
        "patch_size": 14,
    },
    picture=70,
    octree_depth=5,
    frame=(90, 160),
    presets={
        mode: replace(preset, stage_0_steps=2, stage_1_steps=2, face_decimation=2_000)
        for mode, preset in ACTIONMESH.items()
    },
)  # fmt: skip


@dataclass(frozen=True)
class Measurements:
    """Seconds per stage of one run, its peak of GPU memory, and its vertices."""

    seconds: dict[str, float]
    peak_gb: float
    vertices: NDArray[np.float32]

    @property
    def total_s(self) -> float:
        """From the first frame to the last mesh, exports left out."""
        return sum(self.seconds.values())


class _Stopwatch:
    """A Reporter that adds up the seconds of each stage."""

    def __init__(self, on_gpu: bool) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._on_gpu = on_gpu
        self._stage, self._began = STAGES[0], time.perf_counter()

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        del step, steps, message
        if stage != self._stage:
            self.stop()
            self._stage = stage

    def stop(self) -> None:
        """End the current stage."""
        import torch

        if self._on_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self._stage] += now - self._began
        self._began = now

    def warning(self, code: str, message: str) -> None:
        """Not measured."""

    def anchor(self, mesh: MeshSequence) -> None:
        """Not measured."""


def random_engine(size: Size, device: str) -> Engine:
    """ActionMesh as the wrapper loads it, with random weights."""
    import torch
    from actionmesh.external.triposg import TripoSGPipelinePlus
    from actionmesh.model.temporal_autoencoder import ActionMeshAutoencoder
    from actionmesh.model.temporal_denoiser import ActionMeshDenoiser
    from triposg.models.autoencoders import TripoSGVAEModel
    from triposg.models.transformers.triposg_transformer import TripoSGDiTModel
    from triposg.schedulers import RectifiedFlowScheduler

    torch.manual_seed(0)
    nowhere = Path("nowhere")
    pipe = build(CHECKOUT, Folders(nowhere, nowhere, nowhere, nowhere))
    with torch.device(device):
        pipe.temporal_3D_denoiser = ActionMeshDenoiser(**size.denoiser).eval()
        pipe.temporal_3D_vae = ActionMeshAutoencoder(verbose=False, **size.autoencoder).eval()
        pipe.image_to_3d_pipe = TripoSGPipelinePlus(
            vae=TripoSGVAEModel(**size.vae).eval(),
            transformer=TripoSGDiTModel(**size.transformer).eval(),
            scheduler=RectifiedFlowScheduler(num_train_timesteps=1000, shift=1.0),
            image_encoder_dinov2=_dino(size),
            feature_extractor_dinov2=_processor(size),
        )
        pipe.image_encoder = _image_encoder(size)
    pipe.image_to_3d_pipe.to(device, torch.float16)
    pipe.image_to_3d_pipe.vae.decoder.register_forward_hook(_torus)
    disable_output(pipe)
    pipe.background_removal = _unused_remover()
    tokens = pipe.temporal_3D_denoiser.num_tokens_nominal
    pipe._denoiser_latent_shape = (tokens, pipe.temporal_3D_denoiser.in_channels)
    return Engine(pipe, device, size.octree_depth)


def run(
    engine: Engine, preset: ActionMeshPreset, use: Speedups, size: Size, frames: int
) -> Measurements:
    """One job, timed between its stages, with the device synchronised."""
    import torch

    on_gpu = engine.device.startswith("cuda")
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    stopwatch = _Stopwatch(on_gpu)
    request = AnimationRequest(moving_disc(frames, size.frame), preset, 44, use)
    with contextlib.redirect_stdout(sys.stderr):  # TripoSG prints
        made = animate(engine, request, stopwatch)
    stopwatch.stop()
    peak = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0
    return Measurements(stopwatch.seconds, peak, made.vertices)


def variants() -> Iterator[tuple[str, Speedups]]:
    """Without speed-ups, with each speed-up alone, with all."""
    yield "stock", Speedups.none()
    for option in fields(Speedups):
        yield option.name, replace(Speedups.none(), **{option.name: True})
    yield "all", Speedups()


def moving_disc(count: int, shape: tuple[int, int]) -> Clip:
    """RGBA frames: RMBG's weights are not available."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    frames = np.full((count, height, width, 4), 255, np.uint8)
    for k in range(count):
        inside = (y - height / 2) ** 2 + (x - width / 2 - k) ** 2 < (height / 4) ** 2
        frames[k, ..., 3] = np.where(inside, 255, 0)
        frames[k, ..., :3] = (x[..., None] * (1, 2, 3) + k) % 255
    return Clip(frames, 12.0, SourceFacts(width, height, count, None, tuple(range(count))))


def main() -> None:
    """Print the table, row by row as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--frames", type=int, choices=(16, 31), default=16)
    parser.add_argument("--runs", type=int, default=3, help="of which the fastest counts")
    wanted = parser.parse_args()
    import torch

    if not wanted.small and not torch.cuda.is_available():
        parser.exit(1, "no CUDA GPU is here; --small tries the program itself on the CPU\n")
    size, device = (SMALL, "cpu") if wanted.small else (FULL, "cuda:0")
    open_checkout(CHECKOUT)
    engine = random_engine(size, device)
    name = "CPU, tiny models: these times mean nothing"
    if not wanted.small:
        name = f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}"
    print(f"Synthetic (random weights, a torus for a shape), {wanted.frames} frames, {name}\n")
    print("| mode | variant | " + " | ".join(f"{s} s" for s in STAGES), end="")
    print(" | total s | of stock | peak GB | max difference |")
    print("|---|---|" + "---:|" * (len(STAGES) + 4))
    measure(engine, size, wanted.frames, wanted.runs)
    if not wanted.small:
        compile_blocks(engine.pipe, None)
        use = Speedups().beside_compiled_blocks()
        for mode in _MODES:
            found = best_of(wanted.runs, engine, size.presets[mode], use, size, wanted.frames)
            print(row(mode, "all, compiled", found, None), flush=True)


def measure(engine: Engine, size: Size, frames: int, runs: int) -> None:
    """Fast: every variant. Default: stock and all. Low RAM: all."""
    stock: Measurements | None = None
    for mode in _MODES:
        stock = None
        for variant, use in variants():
            if mode == "fast" or variant in ("stock", "all"):
                found = best_of(runs, engine, size.presets[mode], use, size, frames)
                stock = stock or found
                print(row(mode, variant, found, stock), flush=True)
    low = size.presets["fast_low_ram"]
    found = best_of(runs, engine, low, Speedups(), size, frames)
    print(row("fast_low_ram", "all", found, None), flush=True)


def best_of(
    runs: int, engine: Engine, preset: ActionMeshPreset, use: Speedups, size: Size, frames: int
) -> Measurements:
    """The fastest of `runs`, after a warm-up run."""
    run(engine, replace(preset, stage_0_steps=2, stage_1_steps=1), use, size, frames)
    found = [run(engine, preset, use, size, frames) for _ in range(runs)]
    return min(found, key=lambda measured: measured.total_s)


def row(mode: str, variant: str, found: Measurements, stock: Measurements | None) -> str:
    """One line of the table; the difference is between vertices, in the cube [-1, 1]."""
    apart = share = ""
    if stock is not None:
        share = f"{found.total_s / stock.total_s:.2f}"
        apart = "other topology"
        if found.vertices.shape == stock.vertices.shape:
            apart = f"{float(np.abs(found.vertices - stock.vertices).max()):.1e}"
    stages = " | ".join(f"{found.seconds[stage]:.2f}" for stage in STAGES)
    return (
        f"| {mode} | {variant} | {stages} | {found.total_s:.1f} | {share} "
        f"| {found.peak_gb:.1f} | {apart} |"
    )


def _torus(_module: Any, given: tuple[Any, ...], out: tuple[Any, Any]) -> tuple[Any, Any]:
    """Replace the decoder's output: inside is positive, in units of 0.01."""
    import torch

    logits, kept = out
    x, y, z = given[1][..., :3].float().unbind(-1)  # an embedding begins with the point itself
    distance = torch.hypot(torch.hypot(x, z) - 0.6, y) - 0.22
    return (-100.0 * distance)[..., None].to(logits.dtype) + 0 * logits, kept


def _dino(size: Size) -> Any:
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(Dinov2Config(**size.dino)).eval()


def _processor(size: Size) -> Any:
    from transformers import BitImageProcessor

    side = {"height": size.picture, "width": size.picture}
    return BitImageProcessor(size={"shortest_edge": size.picture}, crop_size=side)


def _image_encoder(size: Size) -> Any:
    """Upstream's, without its constructor, which reads weights from disk."""
    import torch
    from actionmesh.model.image_encoder import ImageEncoder

    encoder = ImageEncoder.__new__(ImageEncoder)
    torch.nn.Module.__init__(encoder)
    encoder.dino_model = _dino(size)
    encoder.image_preprocess_dino = _processor(size)
    return encoder


def _unused_remover() -> Any:
    """For frames with alpha only the check of their alpha is called."""
    import torch
    from actionmesh.preprocessing.background_removal import BackgroundRemover

    remover = BackgroundRemover.__new__(BackgroundRemover)
    torch.nn.Module.__init__(remover)
    return remover


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
