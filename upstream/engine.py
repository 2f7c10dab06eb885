"""Builds ActionMesh once and keeps it: its models, their device, and the parameters of each job.

Upstream keeps a job's parameters on the pipeline, so that they affect the next job, and re-reads
weights from disk to save memory. Here every parameter is set for every job, and weights that must
wait do so in host memory: gpu_memory.py says which. driver.py runs the stages.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import WeightsUnavailable
from gpu_memory import PARTS, WAITING, Part, Placement
from pipeline import ActionMeshPreset
from upstream.attention import capability_of, half_type
from upstream.loading import mapped_weights
from upstream.weights import Folders, tensor_names

log = logging.getLogger(__name__)

# attributes of upstream's pipeline, and its methods that load them
_MODELS: Mapping[Part, str] = {
    "background": "background_removal",
    "shape": "image_to_3d_pipe",
    "context": "image_encoder",
    "motion": "temporal_3D_denoiser",
    "decoding": "temporal_3D_vae",
}
_LOADERS: Mapping[Part, str] = {
    "background": "_load_background_removal",
    "shape": "_load_image_to_3d",
    "context": "_load_image_encoder",
    "motion": "_load_temporal_denoiser",
    "decoding": "_load_temporal_vae",
}
# folders of ActionMesh's own models
_FOLDERS: Mapping[Part, str] = {"motion": "denoiser", "decoding": "autoencoder"}


@dataclass
class Engine:
    """Upstream's pipeline with its five models loaded.

    `octree_depth` is TripoSG's, 9 there. `placement` is None until `place` is called: the weights
    are where they were loaded. Values of tensors have other addresses after each move.
    `without_cudnn`: cuDNN has refused an attention here.
    """

    pipe: Any
    device: str
    octree_depth: int = 9
    without_cudnn: bool = field(default=False, init=False)
    placement: Placement | None = field(default=None, init=False)
    # each waiting part: its tensors, and their values in host memory
    _waiting: dict[Part, list[tuple[Any, Any]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        import torch

        self.pipe._target_device = torch.device(self.device)
        self.pipe._dtype = half_type(capability_of(self.device))
        self._pins = self.device.startswith("cuda")

    def configure(self, preset: ActionMeshPreset) -> None:
        """Set every parameter that a job may change."""
        pipe = self.pipe
        pipe.cfg.model.image_to_3D_denoiser.num_inference_steps = preset.stage_0_steps
        pipe.cfg.model.image_to_3D_denoiser.guidance_scale = preset.guidance_scale
        pipe.cfg.anchor_idx = 0  # any other index loses frames at this commit
        pipe.cfg.subsampling_level = 1
        pipe.scheduler.num_inference_steps = preset.stage_1_steps
        pipe.scheduler.split_cfg_batch = preset.low_ram
        pipe.cf_guidance.guidance_scales = [preset.guidance_scale]
        pipe.cf_guidance.inference_enabled = True
        pipe.mesh_process.face_decimation = preset.face_decimation
        pipe.mesh_process.floaters_threshold = preset.floaters_threshold
        pipe.temporal_3D_denoiser.clear_autocast = preset.low_ram

    def place(self, placement: Placement) -> None:
        """Move the weights to where `placement` has them. Does nothing if they are there.

        Weights have one copy, on the device or on the host. Raises what torch raises; out of
        memory, no part has moved to the device.
        """
        if placement == self.placement:
            return
        self.placement = None
        waiting = WAITING[placement]
        for part in PARTS:
            if part in waiting and part not in self._waiting:
                self._waiting[part] = [
                    (tensor, self._to_host(tensor)) for tensor in self.tensors(part)
                ]
        free_memory()
        self._to_device([part for part in PARTS if part not in waiting])
        self.placement = placement

    @contextmanager
    def on_device(self, part: Part) -> Iterator[None]:
        """Inside the block the weights of `part` are on the device."""
        waiting = self._waiting.get(part)
        if waiting is None:
            yield
            return
        import torch

        try:
            with torch.inference_mode(False):  # else compiled blocks see another kind of tensor
                for tensor, held in waiting:
                    tensor.data = held.to(self.device, non_blocking=True, copy=True)
            yield
        finally:
            for tensor, held in waiting:
                tensor.data = held
            free_memory()

    def tensors(self, part: Part) -> list[Any]:
        """Parameters and buffers of a part, each once."""
        owner = getattr(self.pipe, _MODELS[part])
        modules = owner.components.values() if hasattr(owner, "components") else (owner,)
        models = [module for module in modules if hasattr(module, "parameters")]
        held = [tensor for m in models for tensor in (*m.parameters(), *m.buffers())]
        return list({id(tensor): tensor for tensor in held}.values())

    def _to_device(self, parts: list[Part]) -> None:
        before = [(tensor, tensor.data) for part in parts for tensor in self.tensors(part)]
        try:
            for tensor, data in before:
                tensor.data = data.to(self.device)
        except RuntimeError:
            for tensor, data in before:
                tensor.data = data
            raise
        for part in parts:
            self._waiting.pop(part, None)

    def _to_host(self, tensor: Any) -> Any:
        """Move one tensor's values to the host: with CUDA page-locked, for the full transfer rate.

        Tensor by tensor, so that there are never two copies of a part.
        """
        import torch

        if self._pins:
            try:
                held = torch.empty_like(tensor.data, device="cpu", pin_memory=True)
                tensor.data = held.copy_(tensor.data)
                return held
            except RuntimeError as exc:
                log.warning("weights wait in memory that is not page-locked, thus slower: %s", exc)
                self._pins = False
        tensor.data = tensor.data.to("cpu")
        return tensor.data


def build(repo: Path, folders: Folders) -> Any:
    """Upstream's pipeline, without models.

    Its constructor would download into the working directory, so the download is replaced. Not for
    two threads at once: hydra allows one composition per process at a time.
    """
    import actionmesh.pipeline as module

    download = module.download_if_missing
    module.download_if_missing = lambda repo_id, local_dir: local_dir  # noqa: ARG005
    try:
        pipe = module.ActionMeshPipeline(
            config_name="actionmesh.yaml",
            config_dir=str(repo.resolve() / "actionmesh" / "configs"),
            lazy_loading=False,
        )
    finally:
        module.download_if_missing = download
    pipe._triposg_weights_dir = str(folders.triposg)
    pipe._dinov2_weights_dir = str(folders.dinov2)
    pipe._rmbg_weights_dir = str(folders.rmbg)
    pipe._actionmesh_weights_dir = str(folders.actionmesh)
    pipe.cfg.model.image_encoder.pretrained_dino_model = str(folders.dinov2)
    pipe.cfg.model.image_encoder.pretrained_dino_feature_extractor = str(folders.dinov2)
    return pipe


def read_models(pipe: Any, on_part: Callable[[int, int], None]) -> None:
    """Load the five models from disk and disable their output.

    They stay on the host, for `Engine.place`: they do not all fit on a GPU of 12 GB.
    `on_part(done, parts)` is called before each and at the end. Raises WeightsUnavailable for files
    that cannot be read.
    """
    for number, part in enumerate(PARTS):
        on_part(number, len(PARTS))
        try:
            _read(pipe, part)
        except WeightsUnavailable:
            raise
        except Exception as exc:
            log.exception("weights for %s cannot be read", part)
            if isinstance(exc, OSError) and exc.filename is not None:
                raise WeightsUnavailable(
                    f"HF_HOME cannot be read or written ({type(exc).__name__}).",
                    hint="Give the folder to the server's user. The code of RMBG-1.4 is copied to "
                    "HF_HOME/modules when it is loaded.",
                ) from exc
            raise WeightsUnavailable(
                f"The weights for {part} cannot be read: the files do not fit the model.",
                hint="Delete them from HF_HOME and run `make actionmesh` again.",
            ) from exc
    on_part(len(PARTS), len(PARTS))
    # the size of the weights (2048 tokens of 64), not that of the YAML
    denoiser = pipe.temporal_3D_denoiser
    pipe._denoiser_latent_shape = (denoiser.num_tokens_nominal, denoiser.in_channels)
    disable_output(pipe)


def disable_output(pipe: Any) -> None:
    """No progress bars and no messages: driver.py reports the progress."""
    from actionmesh.scheduler import scheduler

    pipe.image_to_3d_pipe.set_progress_bar_config(disable=True)
    pipe.temporal_3D_vae.verbose = False
    pipe.mesh_process.verbose = False
    # stage I creates its bar by name: no setting of tqdm disables it
    scheduler.tqdm = lambda steps, **_: steps


def free_gb(device: str) -> float:
    """The device's free memory, in GB of 1e9 bytes; no limit for a CPU."""
    import torch

    if not device.startswith("cuda"):
        return math.inf
    free, _ = torch.cuda.mem_get_info(device)
    return float(free) / 1e9


def free_memory() -> None:
    """Free unused device memory. Call it outside `except`: a traceback keeps tensors alive."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _read(pipe: Any, part: Part) -> None:
    """Load a part as upstream does, in less time."""
    if part in _FOLDERS:
        _read_mapped(pipe, part, Path(pipe._actionmesh_weights_dir, _FOLDERS[part]))
    else:
        getattr(pipe, _LOADERS[part])()


def _read_mapped(pipe: Any, part: Part, folder: Path) -> None:
    """Load a model of ActionMesh's own, without the random weights that it creates first."""
    load = getattr(pipe, _LOADERS[part])
    held = {name for path in folder.glob("*.safetensors") for name in tensor_names(path)}
    with mapped_weights() if held else nullcontext():
        load()
    model = getattr(pipe, _MODELS[part])
    if held and _lacking(model, held, folder):
        setattr(pipe, _MODELS[part], None)
        load()  # again, so that what is lacking has upstream's initial values
    elif held:
        model.float()  # upstream's type, whatever the file's is


def _lacking(model: Any, held: set[str], folder: Path) -> list[str]:
    """Names of the model's parameters that are not in its files, which have those in `held`.

    The hub's mixin loads with strict=False: a file of another model would leave random weights.
    Raises WeightsUnavailable if more than half are lacking.
    """
    wanted = {name for name, _ in model.named_parameters()}
    lacking = sorted(wanted - held)
    if len(lacking) > len(wanted) / 2:
        raise WeightsUnavailable(
            f"The weights in {folder.name} are of another model: {len(lacking)} of {len(wanted)} "
            f"tensors are missing, such as {lacking[0]}.",
            hint="Is ACTIONMESH_REVISION right? Delete them from HF_HOME; run `make actionmesh`.",
        )
    if lacking:
        log.warning("weights in %s lack %d tensors: %s ...", folder.name, len(lacking), lacking[0])
    return lacking
