"""A tiny ActionMesh with random weights, for upstream's real code on a CPU in seconds.

Writes the sources of weights into a Hugging Face cache, as the hub would have left them, and
upstream's configs with fewer tokens for the reference pipelines. Needs torch and the checkout.
Holds no tests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ActionMeshPreset, Mode
from tests.upstream.huggingface_server import Files
from upstream.sources import SOURCES
from upstream.weights import DEFAULT_REVISIONS
from video.clip import Clip, SourceFacts

WIDTH, CONTEXT, CHANNELS, TOKENS = 64, 32, 8, 64
OCTREE_DEPTH = 5

PRESETS: dict[Mode, ActionMeshPreset] = {
    "default": ActionMeshPreset(4, 3, 7.5, 4_000, 0.02, False),
    "fast": ActionMeshPreset(2, 2, 7.5, 4_000, 0.02, False),
    "fast_low_ram": ActionMeshPreset(2, 2, 7.5, 4_000, 0.02, True),
}

CONFIGS: dict[Mode, str] = {
    "default": "actionmesh.yaml",
    "fast": "actionmesh_fast.yaml",
    "fast_low_ram": "actionmesh_fast_lowram.yaml",
}

_RMBG_CONFIG = """
from transformers import PretrainedConfig


class RMBGConfig(PretrainedConfig):
    model_type = "SegformerForSemanticSegmentation"
"""

_RMBG_NET = '''
import torch
from transformers import PreTrainedModel

from .MyConfig import RMBGConfig


class BriaRMBG(PreTrainedModel):
    """The interface of the real net; dark pixels, below 0.3, are surely the subject."""

    config_class = RMBGConfig

    def __init__(self, config=RMBGConfig()):
        super().__init__(config)  # no post_init, as in the real class
        self.conv = torch.nn.Conv2d(3, 1, 1)

    def forward(self, x):
        return [torch.sigmoid(-60 * (x.mean(1, keepdim=True) + 0.2)) + 0 * self.conv(x)], [x]
'''


def write_cache(cache: Path) -> None:
    """The sources in the cache's layout: models--owner--name/snapshots/commit."""
    import torch

    torch.manual_seed(0)
    dino, processor = _dino()
    folder = _snapshot(cache, "facebook/dinov2-large")
    dino.save_pretrained(folder)
    processor.save_pretrained(folder)
    _write_triposg(_snapshot(cache, "VAST-AI/TripoSG"), dino, processor)
    _write_actionmesh(_snapshot(cache, "facebook/ActionMesh"))
    _write_rmbg(_snapshot(cache, "briaai/RMBG-1.4"))
    write_sam2(_snapshot(cache, "facebook/sam2.1-hiera-small"))


def write_sam2(folder: Path, sees: bool = True) -> None:
    """SAM 2 on squares of 64 pixels, which sees its object in every frame, or in none."""
    import torch
    from transformers import (
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoModel,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    side, width = 64, 128
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[side, side],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[side // 4] * 2, [side // 8] * 2, [side // 16] * 2],
        fpn_hidden_size=width,
    )
    decoder = Sam2VideoMaskDecoderConfig(
        hidden_size=width, num_attention_heads=2, iou_head_hidden_dim=width, mlp_dim=width
    )
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=width, image_size=side),
        mask_decoder_config=decoder,
        image_size=side,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=width,
        memory_attention_rope_feat_sizes=[side // 16] * 2,
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=width,
    )
    model = Sam2VideoModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # with less or more its masks are flat
            if parameter.dim() > 1:
                parameter.normal_(0, 0.05)
        model.mask_decoder.pred_obj_score_head.proj_out.bias += 1e3 if sees else -1e3
    model.save_pretrained(folder)


def snapshot(cache: Path, repo_id: str) -> Path:
    """Where `write_cache` put a repository's files."""
    source = next(source for source in SOURCES if source.repo_id == repo_id)
    return cache / source.cache_folder / "snapshots" / DEFAULT_REVISIONS[source.name]


def repositories(cache: Path) -> dict[str, Files]:
    """The files that `write_cache` wrote, for a hub that serves them."""
    return {
        source.repo_id: {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for source in SOURCES
        for folder in [snapshot(cache, source.repo_id)]
    }


def write_reference(folder: Path, cache: Path, repo: Path) -> Path:
    """Upstream's configs made tiny, and its cwd-relative weights; gives the config folder."""
    from omegaconf import OmegaConf

    for name, repo_id in (
        ("TripoSG", "VAST-AI/TripoSG"),
        ("dinov2", "facebook/dinov2-large"),
        ("RMBG", "briaai/RMBG-1.4"),
        ("ActionMesh", "facebook/ActionMesh"),
    ):
        link = folder / "pretrained_weights" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(snapshot(cache, repo_id))
    configs = folder / "configs"
    configs.mkdir()
    for source in (repo / "actionmesh" / "configs").glob("*.yaml"):
        config = OmegaConf.load(source)
        if source.name == "actionmesh.yaml":
            config.model.temporal_3D_denoiser.num_tokens_nominal = TOKENS
            config.model.temporal_3D_denoiser.in_channels = CHANNELS
            config.merge_with({"stage_0_steps": 4, "stage_1_steps": 3, "face_decimation": 4_000})
        elif "fast" in source.name:
            config.merge_with({"stage_0_steps": 2, "stage_1_steps": 2})
        (configs / source.name).write_text("# @package _global_\n" + OmegaConf.to_yaml(config))
    return configs


@contextmanager
def tiny_triposg() -> Iterator[None]:
    """Upstream's own call of TripoSG passes neither tokens nor depth: pass ours while inside."""
    from actionmesh.external.triposg import TripoSGPipelinePlus

    call = TripoSGPipelinePlus.__call__

    def smaller(self: Any, **options: Any) -> Any:
        return call(self, num_tokens=TOKENS, flash_octree_depth=OCTREE_DEPTH, **options)

    TripoSGPipelinePlus.__call__ = smaller
    try:
        yield
    finally:
        TripoSGPipelinePlus.__call__ = call


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Upstream looks for its weights in the working directory."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def clip_of(count: int, alpha: bool = True, size: int = 96) -> Clip:
    """A dark disc that moves sideways on white; with `alpha`, as RGBA."""
    y, x = np.mgrid[:size, :size]
    frames = np.full((count, size, size, 4 if alpha else 3), 255, np.uint8)
    for k in range(count):
        disc = (y - size / 2) ** 2 + (x - size / 2 - k % 8) ** 2 < (size / 4) ** 2
        frames[k][disc, :3] = (40 + k, 60, 90)
        if alpha:
            frames[k, ..., 3] = np.where(disc, 255, 0)
    return as_clip(frames)


def as_clip(frames: NDArray[np.uint8]) -> Clip:
    """A clip of these frames at 12 fps."""
    count, height, width = frames.shape[:3]
    return Clip(frames, 12.0, SourceFacts(width, height, count, 12.0, tuple(range(count))))


def _snapshot(cache: Path, repo_id: str) -> Path:
    folder = snapshot(cache, repo_id)
    folder.mkdir(parents=True)
    return folder


def _dino() -> tuple[Any, Any]:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=CONTEXT,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=70,
        patch_size=14,
        mlp_ratio=2,
    )
    processor = BitImageProcessor(
        size={"shortest_edge": 70}, crop_size={"height": 70, "width": 70}, do_center_crop=True
    )
    return Dinov2Model(config).eval(), processor


def _write_triposg(folder: Path, dino: Any, processor: Any) -> None:
    import torch
    from triposg.models.autoencoders import TripoSGVAEModel
    from triposg.models.transformers.triposg_transformer import TripoSGDiTModel
    from triposg.pipelines.pipeline_triposg import TripoSGPipeline
    from triposg.schedulers import RectifiedFlowScheduler

    vae = TripoSGVAEModel(
        latent_channels=CHANNELS,
        num_attention_heads=2,
        width_encoder=32,
        width_decoder=WIDTH,
        num_layers_encoder=1,
        num_layers_decoder=2,
    ).eval()
    with torch.no_grad():  # move the random field so that a fifth of the cube is inside
        points = torch.rand(1, 4096, 3) * 2 - 1
        field = vae.decode(torch.randn(1, TOKENS, CHANNELS), points).sample
        vae.decoder.proj_out.bias += field.quantile(0.8)
    transformer = TripoSGDiTModel(
        num_attention_heads=2,
        width=WIDTH,
        in_channels=CHANNELS,
        num_layers=3,
        cross_attention_dim=CONTEXT,
    ).eval()
    TripoSGPipeline(
        vae=vae,
        transformer=transformer,
        scheduler=RectifiedFlowScheduler(num_train_timesteps=1000, shift=1.0),
        image_encoder_dinov2=dino,
        feature_extractor_dinov2=processor,
    ).save_pretrained(folder)


def _write_actionmesh(folder: Path) -> None:
    from actionmesh.model.temporal_autoencoder import ActionMeshAutoencoder
    from actionmesh.model.temporal_denoiser import ActionMeshDenoiser

    ActionMeshDenoiser(
        num_tokens_nominal=TOKENS,
        in_channels=CHANNELS,
        num_layers=3,
        num_attention_heads=2,
        width=WIDTH,
        cross_attention_dim=CONTEXT,
        inflated_layers=(0, 1, 2),
    ).save_pretrained(folder / "denoiser")
    ActionMeshAutoencoder(
        latent_channels=CHANNELS, width=WIDTH, num_layers=2, num_attention_heads=2
    ).save_pretrained(folder / "autoencoder")


def _write_rmbg(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (folder / "MyConfig.py").write_text(_RMBG_CONFIG)
    (folder / "briarmbg.py").write_text(_RMBG_NET)
    code = {
        "AutoConfig": "MyConfig.RMBGConfig",
        "AutoModelForImageSegmentation": "briarmbg.BriaRMBG",
    }
    config = {"model_type": "SegformerForSemanticSegmentation", "auto_map": code}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {"conv.weight": torch.randn(1, 3, 1, 1), "conv.bias": torch.zeros(1)}
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
