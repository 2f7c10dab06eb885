"""What keeps torch from the GPU is told with what to do: driver, build, container, variable."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from upstream.cuda_driver import (
    TORCH,
    TORCH_CUDA,
    Driver,
    NoDriver,
    installed_torch_cuda,
    problem,
    without_kernels,
)

ROOT = Path(__file__).resolve().parents[2]
NONE = NoDriver(is_installed=False)
FINE = Driver("580.82.07", (13, 0), gpus=1)
OLD = Driver("550.54.15", (12, 4), gpus=1)
OLDER_CUDA = (
    "pip install --force-reinstall torch==2.13.0 --index-url https://download.pytorch.org/whl/cu126"
)


@pytest.mark.parametrize(
    ("driver", "torch_cuda", "variables", "told"),
    [
        (NONE, "13.0", {}, ("no NVIDIA driver", "580", "--gpus all", "silhouette")),
        (NoDriver(is_installed=True), "13.0", {}, ("does not answer", "nvidia-smi")),
        (OLD, "13.0", {}, ("550.54.15 runs CUDA up to 12.4", "driver 580", OLDER_CUDA)),
        (Driver("470.256.02", (11, 4), 1), "13.0", {}, ("up to 11.4", "driver 580")),
        (Driver("470.256.02", (11, 4), 1), "12.6", {}, ("up to 11.4", "driver 525")),
        (Driver("535.183.01", None, 1), "13.0", {}, ("libcuda.so.1", "libcuda1", "compute,util")),
        (FINE, "", {}, ("built for the CPU", "--force-reinstall")),
        (FINE, "13.0", {"CUDA_VISIBLE_DEVICES": ""}, ("CUDA_VISIBLE_DEVICES", "hides every GPU")),
        (FINE, "13.0", {"CUDA_VISIBLE_DEVICES": "-1"}, ("CUDA_VISIBLE_DEVICES is '-1'",)),
        (Driver("580.82.07", (13, 0), 0), "13.0", {}, ("no GPU", "nvidia-smi -L")),
    ],
)  # fmt: skip
def test_each_reason_has_its_words(
    driver: Driver | NoDriver, torch_cuda: str, variables: dict[str, str], told: tuple[str, ...]
) -> None:
    found = problem(driver, torch_cuda, variables)
    assert found is not None
    for words in told:
        assert words in f"{found.text}. {found.hint}"


@pytest.mark.parametrize(
    ("driver", "torch_cuda"),
    [(FINE, "13.0"), (Driver("595.1", (13, 2), 1), "13.0"), (FINE, "12.6"), (OLD, "12.6")],
)
def test_a_driver_of_the_same_or_a_newer_cuda_is_fine(driver: Driver, torch_cuda: str) -> None:
    assert problem(driver, torch_cuda, {"CUDA_VISIBLE_DEVICES": "1"}) is None


def test_older_cuda_is_not_offered_to_a_driver_that_cannot_run_it() -> None:
    found = problem(Driver("470.256.02", (11, 4), 1), "13.0", {})
    assert found is not None and "cu126" not in found.hint


def test_a_card_older_than_torch_is_built_for_is_told() -> None:
    cuda_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
    found = without_kernels("Tesla V100", (7, 0), cuda_13)
    assert found is not None and OLDER_CUDA in found.hint
    assert "V100 has compute capability 7.0" in found.text and "built for 7.5" in found.text
    for capability in ((7, 5), (8, 9), (12, 1)):
        assert without_kernels("", capability, cuda_13) is None
    assert without_kernels("Tesla V100", (7, 0), ["sm_50", "sm_70", "sm_90a"]) is None


def test_the_version_that_is_named_is_the_pinned_one() -> None:
    assert f"\n{TORCH}\n" in (ROOT / "requirements" / "actionmesh.txt").read_text()
    lock = (ROOT / "requirements" / "gpu.lock").read_text()
    assert f"\ncuda-toolkit=={TORCH_CUDA}." in lock


@pytest.mark.parametrize(
    ("line", "cuda"), [("cuda: Optional[str] = '13.0'", "13.0"), ("cuda = None", "")]
)
def test_torch_is_asked_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, cuda: str
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "version.py").write_text(f"debug = False\n{line}\nhip = None\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    loaded = {name: sys.modules.pop(name) for name in [*sys.modules] if name == "torch"}
    try:
        assert installed_torch_cuda() == cuda
    finally:
        sys.modules.update(loaded)


NVML = """
#include <string.h>
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned n) { strncpy(text, "550.54.15", n); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { if (!CUDA) *v = 12040; return CUDA; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
"""
"""NVIDIA's library as it is on a machine with an older driver, as far as we ask it."""


@pytest.mark.parametrize(
    ("init", "cuda", "found"),
    [
        (0, 0, Driver("550.54.15", (12, 4), gpus=2)),
        (0, 12, Driver("550.54.15", None, gpus=2)),  # NVML_ERROR_LIBRARY_NOT_FOUND
        (18, 0, NoDriver(is_installed=True)),
    ],
)
def test_the_driver_is_asked_through_nvml(
    tmp_path: Path, init: int, cuda: int, found: Driver | NoDriver
) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "nvml.c", tmp_path / "libnvidia-ml.so.1"
    source.write_text(NVML)
    codes = (f"-DINIT={init}", f"-DCUDA={cuda}")
    build = [compiler, "-shared", "-fPIC", *codes, str(source), "-o", str(library)]
    subprocess.run(build, check=True)
    asked = subprocess.run(
        [sys.executable, "-c", "from upstream.cuda_driver import *; print(find_driver())"],
        cwd=ROOT, env={"LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert asked.stdout.strip() == str(found), asked.stderr
