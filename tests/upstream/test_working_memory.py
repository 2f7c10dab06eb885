"""What stages I and II need beside their weights at the real size, counted without values.

The counts are those of torch's allocator: every buffer from its creation until nothing refers to
it, in units of 512 bytes. What kernels take for themselves is not in them.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Any

import pytest

from gpu_memory import MemoryPlan
from upstream import speedups
from upstream.loading import cast_linears
from video.sampling import MAX_FRAMES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

UNIT = 512
FRAMES, TOKENS, CHANNELS = 16, 2048, 64


def peak_gb(work: Any) -> float:
    """The most that buffers made by `work` take at one time."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    sizes: dict[int, int] = {}
    held, most = 0, 0

    def freed(key: int) -> None:
        nonlocal held
        held -= sizes.pop(key)

    class Count(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, operation: Any, kinds: Any, args: Any = (), options: Any = None
        ) -> Any:
            nonlocal held, most
            out = operation(*args, **(options or {}))
            for tensor in tree_leaves(out):
                storage = getattr(tensor, "untyped_storage", lambda: None)()
                if storage is None or storage._cdata in sizes:
                    continue
                sizes[storage._cdata] = -(-storage.nbytes() // UNIT) * UNIT
                held += sizes[storage._cdata]
                most = max(most, held)
                weakref.finalize(storage, freed, storage._cdata)
            return out

    with Count():
        work()
    return most / 1e9


@pytest.fixture
def models(opened: Any, autocast: None) -> Any:
    """Both stages at the published size, as on a GPU; inside, tensors have no values."""
    import torch
    from actionmesh.model.temporal_autoencoder import ActionMeshAutoencoder
    from actionmesh.model.temporal_denoiser import ActionMeshDenoiser
    from torch._subclasses.fake_tensor import FakeTensorMode

    pipe = type("Pipe", (), {})()
    with FakeTensorMode(), torch.inference_mode(), torch.autocast("cuda"):
        pipe.temporal_3D_denoiser = ActionMeshDenoiser(clear_autocast=False).eval()
        pipe.temporal_3D_vae = ActionMeshAutoencoder(verbose=False).eval()
        cast_linears(pipe, torch.bfloat16)
        yield pipe


@pytest.mark.parametrize("low_ram", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_motion_fits_its_estimate_with_rotation_in_place(
    models: Any, low_ram: bool, in_place: bool
) -> None:
    import torch

    batch = 1 if low_ram else 2
    latents = torch.zeros(batch, FRAMES, TOKENS, CHANNELS)
    given = {
        "context": torch.zeros(batch, FRAMES, 257, 1024),
        "framestep": torch.zeros(batch, FRAMES),
        "diffusion_time": torch.zeros(batch),
        "mask": torch.zeros(batch, FRAMES),
    }
    with speedups.in_place_rotation() if in_place else nullcontext():
        found = peak_gb(lambda: models.temporal_3D_denoiser.forward(latents, **given))
    found += MAX_FRAMES * 4 * (257 * 1024 + TOKENS * CHANNELS) / 1e9  # kept of all frames
    estimate = MemoryPlan("resident", low_ram).working_gb("motion")
    assert (0.9 * estimate < found < estimate) is in_place


@pytest.mark.parametrize("vertices", [20_000, 200_000])
def test_decoding_fits_its_estimate_for_any_number_of_vertices(models: Any, vertices: int) -> None:
    import torch

    autoencoder = models.temporal_3D_vae
    with speedups.decoder_tail(autoencoder, in_chunks=True, in_bfloat16=False):
        found = peak_gb(
            lambda: autoencoder(
                latent=torch.zeros(1, FRAMES, TOKENS, CHANNELS),
                framestep=torch.zeros(1, FRAMES),
                source_alpha=torch.zeros(1),
                target_alphas=torch.zeros(1, 2),
                query=torch.zeros(1, vertices, 6),
            )
        )
    assert found < MemoryPlan("resident", low_ram=False).working_gb("decoding")


def test_the_context_of_the_most_frames_fits_its_estimate(opened: Any) -> None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import Dinov2Config, Dinov2Model
    from transformers.modeling_utils import no_init_weights

    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    with FakeTensorMode(), torch.inference_mode():
        with no_init_weights():
            dino = Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **large)).eval()
        found = peak_gb(lambda: dino(torch.zeros(MAX_FRAMES, 3, 224, 224)).last_hidden_state)
    estimate = MemoryPlan("resident", low_ram=False).working_gb("context")
    assert 0.9 * estimate < found < estimate
