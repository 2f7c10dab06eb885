"""Upstream's pipeline: the same methods and callbacks, with boxes instead of real shapes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trimesh
from triposg.pipelines.pipeline_triposg import TripoSGPipeline

from actionmesh.preprocessing.background_removal import BackgroundRemover
from actionmesh.preprocessing.image_processor import ImagePreprocessor
from actionmesh.preprocessing.mesh_processor import MeshPostprocessor
from actionmesh.utils import download_if_missing


def _windows(frames: int) -> int:
    return 1 if frames == 16 else 2


class _Model(SimpleNamespace):
    def named_parameters(self) -> list[Any]:
        return []


class ActionMeshPipeline:
    def __init__(
        self,
        config_name: str,
        config_dir: str,
        dtype: Any = "bfloat16",
        lazy_loading: bool = False,
    ):
        download_if_missing(repo_id="facebook/ActionMesh", local_dir="pretrained_weights")
        image_to_3d = SimpleNamespace(num_inference_steps=100, guidance_scale=7.5)
        encoder = SimpleNamespace(
            pretrained_dino_model="relative", pretrained_dino_feature_extractor="relative"
        )
        models = SimpleNamespace(image_to_3D_denoiser=image_to_3d, image_encoder=encoder)
        self.cfg = SimpleNamespace(model=models, anchor_idx=3, subsampling_level=2)
        self.scheduler = SimpleNamespace(num_inference_steps=30, split_cfg_batch=False)
        self.cf_guidance = SimpleNamespace(guidance_scales=[1.0], inference_enabled=False)
        self.image_process = ImagePreprocessor()
        self.mesh_process = MeshPostprocessor()
        self._dtype = dtype
        self._rmbg_weights_dir = "relative"
        self._actionmesh_weights_dir = "relative"
        self.seen: list[Any] = []
        self.failures: list[Exception] = []

    def _load_image_to_3d(self) -> None:
        self.image_to_3d_pipe = TripoSGPipeline()

    def _load_background_removal(self) -> None:
        self.background_removal = BackgroundRemover(self._rmbg_weights_dir)

    def _load_image_encoder(self) -> None:
        assert self.cfg.model.image_encoder.pretrained_dino_model != "relative"
        self.image_encoder = SimpleNamespace()

    def _load_temporal_denoiser(self) -> None:
        self.temporal_3D_denoiser = _Model(num_tokens_nominal=4, in_channels=2, clear_autocast=True)

    def _load_temporal_vae(self) -> None:
        self.temporal_3D_vae = _Model(verbose=True)

    def encode_all_frames(self, input: Any) -> Any:
        return list(range(input.n_frames))

    def generate_3d_latents(
        self, input: Any, context: Any, latent_bank: Any, seed: int = 44, step_callback: Any = None
    ) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        steps, windows = self.scheduler.num_inference_steps, _windows(input.n_frames)
        self.seen.append(
            {
                "input": input,
                "seed": seed,
                "stage_0_steps": self.cfg.model.image_to_3D_denoiser.num_inference_steps,
                "stage_1_steps": steps,
                "split": self.scheduler.split_cfg_batch,
                "anchor_idx": self.cfg.anchor_idx,
                "subsampling_level": self.cfg.subsampling_level,
                "guidance": (self.cf_guidance.guidance_scales, self.cf_guidance.inference_enabled),
                "faces": self.mesh_process.face_decimation,
            }
        )
        for window in range(windows):
            for step in range(steps):
                step_callback(step + 1, steps, window, windows)
        latent_bank.update(input.timesteps[1:], seed)
        return latent_bank

    def generate_mesh_animation(
        self, latent_bank: Any, mesh_bank: Any, step_callback: Any = None
    ) -> Any:
        anchor, count = mesh_bank.items[0], len(latent_bank.timesteps)
        windows = _windows(count)
        steps = (count - 1) // windows
        for window in range(windows):
            for step in range(steps):
                step_callback(step + 1, steps, window, windows)
        moved = [
            trimesh.Trimesh(anchor.vertices * 0.9, anchor.faces, process=False)
            for _ in range(count - 1)
        ]
        mesh_bank.update(timesteps=latent_bank.timesteps[1:], meshes=moved)
        return mesh_bank
