"""ActionMesh with random weights: a Hugging Face cache of them, and the pipeline that loads it.

Times and memory are real at full size. Meshes are not: a random field has no surface, so that the
decoder's output is replaced by a torus with a ball on it; random motion is not the video's, so that
in the worker the meshes stand still. SMALL is the tests' tiny model on the CPU. The worker's child
builds its pipeline by name.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from actionmesh_wrapper import ActionMeshPipeline
from meshes.sequence import MeshSequence
from pipeline import ACTIONMESH, ActionMeshPreset, Mode, Reporter
from settings import Settings
from tests.upstream import tiny
from upstream.sources import SOURCES
from video.clip import Clip

FRAMES = 16
GPU_TIMES = "gpu_times.txt"
"""In HF_HOME: when each job's first model began and its last one ended (monotonic, seconds)."""


@dataclass(frozen=True)
class Size:
    """`frame_px` is the side of a frame; `estimate_factor` that of the estimates of time."""

    pipeline: str
    device: str
    presets: Mapping[Mode, ActionMeshPreset]
    octree_depth: int
    frame_px: int
    estimate_factor: float

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"


# 1440 x 1440 are as many pixels as 1920 x 1080
FULL = Size(f"{__name__}:StandsStill", "cuda:0", ACTIONMESH, 9, 1440, 1.0)
SMALL = Size(f"{__name__}:SmallStandsStill", "cpu", tiny.PRESETS, tiny.OCTREE_DEPTH, 128, 0.1)


class RandomActionMesh(ActionMeshPipeline):
    """The worker's own pipeline over the random weights; its settings come from the environment."""

    size = FULL

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(
            settings or Settings.from_environment(os.environ),
            presets=dict(self.size.presets),
            device=self.size.device,
            octree_depth=self.size.octree_depth,
        )
        self._works = False

    @property
    def pipe(self) -> Any:
        """Upstream's pipeline, once it is loaded."""
        assert self.engine is not None
        return self.engine.pipe

    def load(self, reporter: Reporter) -> None:
        super().load(reporter)
        self.pipe.image_to_3d_pipe.vae.decoder.register_forward_hook(_figure)
        # one of these is the first model of a job, with and without alpha
        for model in (
            self.pipe.background_removal.model,
            self.pipe.image_to_3d_pipe.image_encoder_dinov2,
        ):
            model.register_forward_pre_hook(lambda *_: self._begin())

    def animate(
        self,
        clip: Clip,
        mode: Mode,
        seed: int,
        reporter: Reporter,
        mesh: Path | None = None,
        faces: int | None = None,
        tries: int = 1,
    ) -> MeshSequence:
        self._works = False
        watched = _EndOfDecoding(reporter, self)
        return super().animate(clip, mode, seed, watched, mesh, faces, tries)

    def write_time(self, event: str) -> None:
        assert self.settings is not None and self.settings.hf_home is not None
        with open(self.settings.hf_home / GPU_TIMES, "a") as file:
            file.write(f"{event} {time.monotonic()}\n")

    def _begin(self) -> None:
        if not self._works:
            self._works = True
            self.write_time("began")


class SmallRandomActionMesh(RandomActionMesh):
    """The same with the tests' tiny weights, on the CPU."""

    size = SMALL


class StandsStill(RandomActionMesh):
    """All the work is done; then the first mesh, which looks like the worker's video, is kept."""

    def animate(
        self,
        clip: Clip,
        mode: Mode,
        seed: int,
        reporter: Reporter,
        mesh: Path | None = None,
        faces: int | None = None,
        tries: int = 1,
    ) -> MeshSequence:
        made = super().animate(clip, mode, seed, reporter, mesh, faces, tries)
        return replace(made, vertices=np.repeat(made.vertices[:1], len(made), axis=0))


class SmallStandsStill(StandsStill):
    """The same with the tests' tiny weights, on the CPU."""

    size = SMALL


@dataclass(frozen=True)
class _EndOfDecoding:
    """Passes reports on; the last one of decoding is the end of a job's work on the GPU."""

    reporter: Reporter
    pipeline: RandomActionMesh

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        if stage == "decoding" and step == steps:
            self.pipeline.write_time("ended")
        self.reporter.progress(stage, step, steps, message)

    def warning(self, code: str, message: str, **facts: Any) -> None:
        self.reporter.warning(code, message, **facts)

    def subject(
        self, clip: Clip, method: str | None = None, confidence: float | None = None
    ) -> None:
        self.reporter.subject(clip, method, confidence)

    def tried(self, mesh: MeshSequence, seed: int, outline: float) -> None:
        self.reporter.tried(mesh, seed, outline)

    def anchor(self, mesh: MeshSequence, seed: int | None = None) -> None:
        self.reporter.anchor(mesh, seed)


def environment(home: Path) -> dict[str, str]:
    """The variables with which the weights under `home` are found, and nothing is downloaded."""
    cache = home / "hub"
    revisions = {source.setting: tiny.snapshot(cache, source.repo_id).name for source in SOURCES}
    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", **revisions}


def write_weights(home: Path, size: Size) -> None:
    """Fill the cache under `home`: 16 GB at full size. Needs the checkout to be importable."""
    cache = home / "unfinished"  # a run that is cut off must not leave half of it to the next
    shutil.rmtree(cache, ignore_errors=True)
    tiny.write_cache(cache)
    # like the real class, the tiny one may not call post_init, without which transformers 5 fails
    with open(tiny.snapshot(cache, "briaai/RMBG-1.4") / "briarmbg.py", "a") as code:
        code.write("\n\nBriaRMBG.all_tied_weights_keys = {}\n")
    if size.on_gpu:
        _write_full_models(cache, size.device)
    cache.rename(home / "hub")


def _write_full_models(cache: Path, device: str) -> None:
    """Overwrite all but RMBG's tiny weights by models of the published sizes, in float32."""
    import torch
    from actionmesh.model.temporal_autoencoder import ActionMeshAutoencoder
    from actionmesh.model.temporal_denoiser import ActionMeshDenoiser
    from transformers import (
        BitImageProcessor,
        Dinov2Config,
        Dinov2Model,
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoModel,
        Sam2VisionConfig,
    )
    from triposg.models.autoencoders import TripoSGVAEModel
    from triposg.models.transformers.triposg_transformer import TripoSGDiTModel
    from triposg.pipelines.pipeline_triposg import TripoSGPipeline
    from triposg.schedulers import RectifiedFlowScheduler

    torch.manual_seed(0)
    crop = {"height": 224, "width": 224}
    processor = BitImageProcessor(size={"shortest_edge": 224}, crop_size=crop)
    shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    with torch.device(device):  # where random numbers take no time
        dino = Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **shape))
        for model in (dino, processor):
            model.save_pretrained(tiny.snapshot(cache, "facebook/dinov2-large"))
        TripoSGPipeline(
            vae=TripoSGVAEModel(),
            transformer=TripoSGDiTModel(),
            scheduler=RectifiedFlowScheduler(num_train_timesteps=1000, shift=1.0),
            image_encoder_dinov2=dino,
            feature_extractor_dinov2=processor,
        ).save_pretrained(tiny.snapshot(cache, "VAST-AI/TripoSG"))
        folder = tiny.snapshot(cache, "facebook/ActionMesh")
        ActionMeshDenoiser().save_pretrained(folder / "denoiser")
        ActionMeshAutoencoder().save_pretrained(folder / "autoencoder")
        small = Sam2HieraDetConfig(
            blocks_per_stage=[1, 2, 11, 2], global_attention_blocks=[7, 10, 13]
        )
        Sam2VideoModel(
            Sam2VideoConfig(vision_config=Sam2VisionConfig(backbone_config=small))
        ).save_pretrained(tiny.snapshot(cache, "facebook/sam2.1-hiera-small"))


RING, TUBE = 0.6, 0.2
"""Radii of the torus: of its middle line, and of its body."""
BALL, BALL_RADIUS = (0.35, 0.35, 0.5), 0.3
"""Middle of the ball, and its radius: from behind, the figure looks otherwise."""


def figure_distance(x: Any, y: Any, z: Any) -> Any:
    """Signed distances of points to the figure, negative inside: a torus around y, and a ball."""
    import torch

    torus = torch.hypot(torch.hypot(x, z) - RING, y) - TUBE
    ball = torch.hypot(torch.hypot(x - BALL[0], y - BALL[1]), z - BALL[2]) - BALL_RADIUS
    return torch.minimum(torus, ball)


@contextmanager
def without_figure(vae: Any) -> Iterator[None]:
    """Inside the block the decoder's own output comes through."""
    hooks = vae.decoder._forward_hooks.copy()
    vae.decoder._forward_hooks.clear()
    try:
        yield
    finally:
        vae.decoder._forward_hooks.update(hooks)


def _figure(_module: Any, given: tuple[Any, ...], out: tuple[Any, Any]) -> tuple[Any, Any]:
    """Replace the decoder's output: inside is positive, in units of 0.01."""
    logits, kept = out
    points = given[1][..., :3].float()  # an embedding begins with the point itself
    distance = figure_distance(*points.unbind(-1))
    return (-100.0 * distance)[..., None].to(logits.dtype) + 0 * logits, kept
