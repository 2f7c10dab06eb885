"""Weights from files into memory: less time and fewer bytes than upstream needs, the same values.

ActionMesh's files are mapped, without random values before, and the weights of its Linear layers
can stay in 16 bits. Called by engine.py and actionmesh_wrapper.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from typing import Any


@contextmanager
def mapped_weights() -> Iterator[None]:
    """Inside, a model's parameters are the mapped file: Linear layers get no values before.

    Only for a model whose files hold all of its Linear layers, nearly all of ActionMesh's
    parameters; its other layers start with ones and zeros. Stage I then takes 0.1 s to load and
    3 s of CPU to convert, not 7.5 s to load, and no host memory is written twice.
    """
    import torch

    reset, load = torch.nn.Linear.reset_parameters, torch.nn.Module.load_state_dict
    torch.nn.Linear.reset_parameters = lambda _self: None
    torch.nn.Module.load_state_dict = partialmethod(load, assign=True)
    try:
        yield
    finally:
        torch.nn.Linear.reset_parameters = reset
        torch.nn.Module.load_state_dict = load


def cast_linears(pipe: Any, dtype: Any) -> None:
    """Convert the Linear layers of both stages, once, as autocast would for every job.

    Not bit-identical without autocast: not for a CPU, where upstream's autocast("cuda") does
    nothing. The autoencoder's last block and its projections around it run outside autocast, in
    float32, and are left as they are.
    """
    import torch

    autoencoder = pipe.temporal_3D_vae
    outside = [autoencoder.blocks[-1], autoencoder.proj_query, autoencoder.proj_out]
    left = {module for owner in outside for module in owner.modules()}
    for model in (pipe.temporal_3D_denoiser, autoencoder):
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module not in left:
                for tensor in module.parameters(recurse=False):
                    tensor.data = tensor.data.to(dtype)
