"""Weights in memory: every value is the file's, in fewer bytes, and none was random before."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import CHECKOUT
from tests.upstream import tiny
from upstream.engine import build, read_models
from upstream.weights import Folders

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]

SOURCES = ("facebook/ActionMesh", "VAST-AI/TripoSG", "facebook/dinov2-large", "briaai/RMBG-1.4")


def folders_of(cache: Path) -> Folders:
    return Folders(*[tiny.snapshot(cache, source) for source in SOURCES])


def read(folders: Folders) -> Any:
    """Upstream's pipeline with the tiny models, read by us."""
    pipe = build(CHECKOUT, folders)
    read_models(pipe, lambda *_: None)
    return pipe


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_actionmeshs_parameters_are_those_of_the_files(
    cache: Path, tmp_path: Path, kind: str
) -> None:
    """In float32, which a published file may not be."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders_of(cache).actionmesh, tmp_path, dirs_exist_ok=True)
    paths = {
        "temporal_3D_denoiser": tmp_path / "denoiser" / "model.safetensors",
        "temporal_3D_vae": tmp_path / "autoencoder" / "model.safetensors",
    }
    for path in paths.values():
        stored = {key: t.to(getattr(torch, kind)) for key, t in load_file(path).items()}
        path.unlink()
        save_file(stored, path)
    pipe = read(replace(folders_of(cache), actionmesh=tmp_path))
    for name, path in paths.items():
        stored, held = load_file(path), dict(getattr(pipe, name).named_parameters())
        assert held.keys() == stored.keys()
        for key, tensor in held.items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, stored[key].float()), key


def test_no_random_weights_are_created_for_actionmeshs_models(cache: Path) -> None:
    import torch

    states: list[Any] = []
    pipe = build(CHECKOUT, folders_of(cache))
    read_models(pipe, lambda *_: states.append(torch.get_rng_state()))
    before_motion, before_decoding, after = states[-3:]
    assert torch.equal(before_motion, before_decoding)
    assert torch.equal(before_decoding, after)
    torch.nn.Linear(8, 4)  # layers that are made later are initialised as ever
    assert not torch.equal(after, torch.get_rng_state())


def test_a_weight_that_the_file_lacks_has_upstreams_initial_value(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders_of(cache).actionmesh, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "denoiser" / "model.safetensors"
    fewer = load_file(path)
    lacking = fewer.pop("proj_in.weight")
    path.unlink()  # mapped by `fewer`
    save_file(fewer, path)
    pipe = read(replace(folders_of(cache), actionmesh=tmp_path))
    found = pipe.temporal_3D_denoiser.proj_in.weight
    assert "lack 1 tensors: proj_in.weight" in caplog.text
    bound = lacking.shape[1] ** -0.5  # of torch's initial values
    assert 0 < found.abs().max() <= bound
    assert len(found.unique()) > found.numel() / 2
