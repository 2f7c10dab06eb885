"""Stage 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh


class Vae:
    """Has a decoder that takes hooks."""

    def __init__(self) -> None:
        self.decoder = self
        self.hooks: list[Any] = []

    def register_forward_pre_hook(self, hook: Any) -> Vae:
        self.hooks.append(hook)
        return self

    def remove(self) -> None:
        self.hooks.clear()


class TripoSGPipeline:
    device = "cpu"

    def __init__(self) -> None:
        self.vae = Vae()
        self.components: dict[str, Any] = {}

    def set_progress_bar_config(self, **options: Any) -> None:
        """diffusers' own."""

    def __call__(
        self,
        image: Any,
        num_inference_steps: int = 50,
        num_tokens: int = 2048,
        timesteps: list[int] | None = None,
        guidance_scale: float = 7.0,
        num_shapes_per_prompt: int = 1,
        generator: Any = None,
        latents: Any = None,
        attention_kwargs: Any = None,
        callback_on_step_end: Any = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006
        bounds: Any = (-1.005, -1.005, -1.005, 1.005, 1.005, 1.005),
        dense_octree_depth: int = 8,
        hierarchical_octree_depth: int = 9,
        flash_octree_depth: int = 9,
        use_flash_decoder: bool = True,
        return_dict: bool = True,
    ) -> Any:
        found = np.full((1, num_tokens, 2), float(generator.seed))
        for step in range(num_inference_steps):
            callback_on_step_end(self, step, 0, {"latents": Tensor(found)})
        for hook in self.vae.hooks:
            hook(self.vae, ())
        box = trimesh.creation.box(extents=(1, 1, 1 + num_inference_steps / 100))
        return None, [box]


class Tensor:
    """An array with torch's `clone`."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def clone(self) -> Tensor:
        return Tensor(self.values.copy())
