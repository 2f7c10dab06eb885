"""Fixtures with upstream's real code: skipped, with the reason, where torch or it is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actionmesh_wrapper import ActionMeshPipeline
from gpu_memory import Part, choose_plan
from pipeline import CHECKOUT
from settings import Settings
from tests.upstream import tiny
from tests.upstream.huggingface_server import Hub, running_hub, small_repositories
from tests.upstream.recording_reporter import RecordingReporter
from upstream.checkout import open_checkout
from upstream.speedups import Speedups


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A model hub on this machine with small files."""
    with running_hub(small_repositories()) as running:
        yield running


@pytest.fixture(scope="session")
def checkout() -> Path:
    """actionmesh_repo/, not yet on sys.path."""
    if not (CHECKOUT / "actionmesh").is_dir():
        pytest.skip("actionmesh_repo/ is empty: `make actionmesh` fills it")
    return CHECKOUT


@pytest.fixture(scope="session")
def opened(checkout: Path) -> Path:
    """The checkout, importable."""
    for package in ("torch", "transformers", "diffusers", "hydra"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: `make actionmesh` does that")
    import torch

    torch.set_num_threads(1)
    open_checkout(checkout)
    return checkout


@pytest.fixture(scope="session")
def cache(opened: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Hugging Face cache with the tiny weights, instead of the machine's own."""
    from huggingface_hub import constants
    from transformers import dynamic_module_utils

    folder = tmp_path_factory.mktemp("hf")
    tiny.write_cache(folder / "hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder / "modules"))
        yield folder / "hub"


@pytest.fixture(scope="session")
def stock(cache: Path, opened: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """mode -> upstream's own pipeline, built as upstream's script builds it."""
    from actionmesh.pipeline import ActionMeshPipeline as Upstream

    folder = tmp_path_factory.mktemp("stock")
    configs = tiny.write_reference(folder, cache, opened)
    with tiny.working_in(folder), tiny.tiny_triposg():
        pipes = {}
        for mode, name in tiny.CONFIGS.items():
            lazy = "lowram" in name
            pipes[mode] = Upstream(config_name=name, config_dir=str(configs), lazy_loading=lazy)
            pipes[mode].to("cpu")
        yield pipes


@pytest.fixture(scope="session")
def resident(cache: Path) -> ActionMeshPipeline:
    """Our pipeline, loaded once for all tests, without speed-ups."""
    return loaded(Speedups.none())


@pytest.fixture
def autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's autocast with a CPU: torch.autocast("cuda") casts there, too, to bfloat16."""
    import torch

    real = torch.autocast

    class OnCpu(real):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True) -> None:
            assert device_type == "cuda"
            super().__init__("cpu", dtype=torch.bfloat16, enabled=enabled)

    monkeypatch.setattr(torch, "autocast", OnCpu)
    monkeypatch.setattr(torch.amp, "autocast", OnCpu)


def on_card(pipeline: ActionMeshPipeline, free_gb: float) -> ActionMeshPipeline:
    """The same loaded models, as if they had been loaded on a card with so much free memory."""
    made = ActionMeshPipeline(
        presets=tiny.PRESETS, use=pipeline.use, device="cpu", octree_depth=tiny.OCTREE_DEPTH
    )
    made.engine, made.free_gb = pipeline.engine, free_gb
    assert made.engine is not None
    plan = choose_plan(low_ram=False, free_gb=free_gb)
    assert plan is not None
    made.engine.place(plan.placement)
    return made


def addresses(pipeline: ActionMeshPipeline, part: Part) -> list[int]:
    """Where the values of a part's tensors are, empty tensors left out."""
    assert pipeline.engine is not None
    return [tensor.data_ptr() for tensor in pipeline.engine.tensors(part) if tensor.numel()]


def failing(pipeline: ActionMeshPipeline, times: int, error: Exception) -> Any:
    """A hook that makes the real denoiser raise on its first `times` calls."""
    assert pipeline.engine is not None
    left = [times]

    def fail(*_: object) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise error

    return pipeline.engine.pipe.temporal_3D_denoiser.proj_in.register_forward_pre_hook(fail)


def loaded(use: Speedups, device: str = "cpu") -> ActionMeshPipeline:
    """A pipeline over the tiny weights."""
    pipeline = ActionMeshPipeline(
        Settings(),
        presets=tiny.PRESETS,
        use=use,
        device=device,
        octree_depth=tiny.OCTREE_DEPTH,
    )
    pipeline.load(RecordingReporter())
    return pipeline
