"""The fake upstream has upstream's signatures: both are read from source, nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FAKE_UPSTREAM = Path(__file__).parent / "fake_upstream"
FILES = sorted(
    path.relative_to(FAKE_UPSTREAM)
    for package in ("actionmesh", "triposg")
    for path in (FAKE_UPSTREAM / package).rglob("*.py")
    if path.name != "__init__.py"
)
# names that the fake needs in addition to upstream's, or that diffusers and diso define
OWN = {"_windows", "_Model", "Tensor", "Vae", "TripoSGPipeline.set_progress_bar_config", "DiffDMC"}


def signatures(source: str) -> Iterator[tuple[str, list[str]]]:
    """(name, parameters) of every function, method and dataclass; `=` marks a default."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, parameters(node)
        elif isinstance(node, ast.ClassDef):
            if any("dataclass" in ast.unparse(mark) for mark in node.decorator_list):
                yield node.name, fields(node)
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", parameters(inner)


def parameters(node: ast.FunctionDef) -> list[str]:
    named = [*node.args.posonlyargs, *node.args.args]
    defaults = len(node.args.defaults)
    found = [
        arg.arg + ("=" if index >= len(named) - defaults else "") for index, arg in enumerate(named)
    ]
    return found + [f"*{arg.arg}" for arg in node.args.kwonlyargs]


def fields(node: ast.ClassDef) -> list[str]:
    return [
        ast.unparse(line.target) + ("=" if line.value is not None else "")
        for line in node.body
        if isinstance(line, ast.AnnAssign)
    ]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_the_fake_upstream_has_upstreams_signatures(checkout: Path, path: Path) -> None:
    root = checkout / "third_party" / "TripoSG" if path.parts[0] == "triposg" else checkout
    real = dict(signatures((root / path).read_text()))
    for name, found in signatures((FAKE_UPSTREAM / path).read_text()):
        if name in OWN or name.split(".")[0] in OWN or name == "TripoSGPipeline.__init__":
            continue
        assert name in real, f"upstream has no {name}"
        assert found == real[name], name


def test_upstream_reads_the_names_that_we_set(checkout: Path) -> None:
    source = (checkout / "actionmesh" / "pipeline.py").read_text()
    for name in (
        "self.cfg.anchor_idx",
        "self.cfg.subsampling_level",
        "self.cfg.model.image_to_3D_denoiser.num_inference_steps",
        "self.cfg.model.image_to_3D_denoiser.guidance_scale",
        "self._denoiser_latent_shape",
        "self._triposg_weights_dir",
        "self._rmbg_weights_dir",
        "self._actionmesh_weights_dir",
        "self._target_device",
        "self._dtype",
        "self.mesh_process.face_decimation",
        "self.mesh_process.floaters_threshold",
        "self.cf_guidance.guidance_scales",
        "self.scheduler.num_inference_steps",
    ):
        assert name in source
    scheduler = (checkout / "actionmesh" / "scheduler" / "scheduler.py").read_text()
    assert "self.split_cfg_batch" in scheduler
