"""Weights in memory: every value is the file's, in fewer bytes, and none was random before."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actionmesh_wrapper import ActionMeshPipeline
from errors import WeightsUnavailable
from gpu_memory import WEIGHTS_GB, Part
from pipeline import CHECKOUT, MODES, Mode
from tests.upstream import tiny
from tests.upstream.conftest import loaded
from tests.upstream.recording_reporter import RecordingReporter
from upstream.engine import build, read_models
from upstream.loading import cast_linears
from upstream.speedups import Speedups
from upstream.weights import Folders

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]

STAGES: tuple[Part, ...] = ("motion", "decoding")
SOURCES = ("facebook/ActionMesh", "VAST-AI/TripoSG", "facebook/dinov2-large", "briaai/RMBG-1.4")


def folders_of(cache: Path) -> Folders:
    return Folders(*[tiny.snapshot(cache, source) for source in SOURCES])


def read(folders: Folders) -> Any:
    """Upstream's pipeline with the tiny models, read by us."""
    pipe = build(CHECKOUT, folders)
    read_models(pipe, lambda *_: None)
    return pipe


def test_a_cache_that_cannot_be_written_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    (tmp_path / "file").touch()
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "file/modules"))
    with pytest.raises(WeightsUnavailable, match="HF_HOME cannot be read or written"):
        read(folders_of(cache))


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


def test_on_a_cpu_all_weights_of_both_stages_stay_float32(resident: ActionMeshPipeline) -> None:
    """Autocast("cuda") does nothing there, so that bfloat16 would change upstream's result."""
    import torch

    assert resident.engine is not None
    for part in STAGES:
        assert {tensor.dtype for tensor in resident.engine.tensors(part)} == {torch.float32}


@pytest.mark.parametrize("count", [16, 31])
@pytest.mark.parametrize("use", [Speedups.none(), Speedups()], ids=["stock", "speedups"])
def test_linear_weights_in_bfloat16_give_the_same_bits_under_autocast(
    cache: Path, autocast: None, count: int, use: Speedups
) -> None:
    import torch

    pipeline = loaded(use)
    assert pipeline.engine is not None
    # a CPU's autocast refuses float16; TripoSG runs outside autocast
    pipeline.engine.pipe.image_to_3d_pipe.to(torch.float32)
    clip = tiny.clip_of(count)

    def animate(mode: Mode) -> Any:
        return pipeline.animate(clip, mode, 7, RecordingReporter()).vertices

    wanted = {mode: animate(mode) for mode in MODES}
    cast_linears(pipeline.engine.pipe, torch.bfloat16)
    for mode in MODES:
        assert np.array_equal(animate(mode), wanted[mode])
    # most of both models is converted, and what runs outside autocast is not
    for part in STAGES:
        tensors = pipeline.engine.tensors(part)
        half = sum(t.numel() for t in tensors if t.dtype == torch.bfloat16)
        assert half > 0.6 * sum(t.numel() for t in tensors)


def test_the_sizes_of_the_published_models_are_those_of_the_memory_plan(opened: Path) -> None:
    import torch
    from actionmesh.model.temporal_autoencoder import ActionMeshAutoencoder
    from actionmesh.model.temporal_denoiser import ActionMeshDenoiser
    from transformers import Dinov2Config, Dinov2Model
    from triposg.models.autoencoders import TripoSGVAEModel
    from triposg.models.transformers.triposg_transformer import TripoSGDiTModel

    def gb(*models: Any) -> float:
        tensors = [tensor for model in models for tensor in model.parameters()]
        return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors)) / 1e9

    pipe = type("Pipe", (), {})()
    with torch.device("meta"):  # no memory, only sizes
        pipe.temporal_3D_denoiser, pipe.temporal_3D_vae = (
            ActionMeshDenoiser(),
            ActionMeshAutoencoder(),
        )
        large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
        dino = Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **large))
        triposg = TripoSGVAEModel(), TripoSGDiTModel(), dino
    cast_linears(pipe, torch.bfloat16)
    assert WEIGHTS_GB["motion"] == pytest.approx(gb(pipe.temporal_3D_denoiser), abs=0.005)
    assert WEIGHTS_GB["decoding"] == pytest.approx(gb(pipe.temporal_3D_vae), abs=0.005)
    assert WEIGHTS_GB["context"] == pytest.approx(gb(dino), abs=0.005)
    assert WEIGHTS_GB["shape"] == pytest.approx(gb(*triposg) / 2, abs=0.005)  # float16
