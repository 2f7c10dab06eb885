"""Whether torch can use the GPU of this machine, and what to do if it cannot.

Compares the CUDA version of the driver, from NVML, with the one that torch is built for. Standard
library only, without torch: install_check.py uses it before the packages are there, and
actionmesh_wrapper.py when torch finds no GPU.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
"""As in requirements/actionmesh.txt (a test compares them)."""
TORCH_CUDA = "13.0"
"""The CUDA version of that package on PyPI for Linux."""
DRIVERS = {13: "580", 12: "525"}
"""The oldest driver for each major version of CUDA, as published by NVIDIA (580.65, 525.60)."""
# forced, because pip takes the same version for another CUDA as the same package
OLDER_CUDA = (
    f".venv/bin/pip install --force-reinstall {TORCH} "
    "--index-url https://download.pytorch.org/whl/cu126 (built for CUDA 12.6), then "
    "`make actionmesh` again"
)

_NO_GPU = "Set PIPELINE=silhouette to work without one."


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver on this machine: its version, the newest CUDA that it runs, its GPUs.

    `cuda` is None if its library for CUDA is not installed.
    """

    version: str
    cuda: tuple[int, int] | None
    gpus: int


@dataclass(frozen=True)
class NoDriver:
    """`is_installed`: NVML is there, so the driver is too, but it does not answer."""

    is_installed: bool


@dataclass(frozen=True)
class Problem:
    """Why torch cannot use a GPU. `by_torch`: the GPU is there, but not for this torch."""

    text: str
    hint: str
    by_torch: bool = False


def find_driver() -> Driver | NoDriver:
    """Ask NVML. Its functions: https://docs.nvidia.com/deploy/nvml-api."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return NoDriver(is_installed=False)
    if nvml.nvmlInit_v2() != 0:
        return NoDriver(is_installed=True)
    try:
        version = ctypes.create_string_buffer(80)
        cuda, gpus = ctypes.c_int(), ctypes.c_uint()
        nvml.nvmlSystemGetDriverVersion(version, len(version))
        has_cuda = nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)) == 0
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(gpus))
    finally:
        nvml.nvmlShutdown()
    number = cuda.value  # 1000 * major + 10 * minor
    runs = (number // 1000, number % 1000 // 10) if has_cuda else None
    return Driver(version.value.decode(), runs, gpus.value)


def installed_torch_cuda() -> str | None:
    """The CUDA version of the installed torch, "" if it is built for the CPU; None without torch.

    Read from its file version.py: importing torch takes seconds and 300 MB.
    """
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return None
    text = (Path(found.submodule_search_locations[0]) / "version.py").read_text()
    version = re.search(r"""^cuda\b[^=]*= *["']([\d.]+)["']""", text, re.MULTILINE)
    return version[1] if version else ""


def problem(
    driver: Driver | NoDriver, torch_cuda: str, environ: Mapping[str, str]
) -> Problem | None:
    """What keeps torch from the GPU, and what to do; None if nothing is known.

    `torch_cuda` is torch.version.cuda, "" for a torch that is built for the CPU.
    """
    if isinstance(driver, NoDriver):
        return _no_driver(driver)
    if not torch_cuda:
        hint = f"Replace it: .venv/bin/pip install --force-reinstall {TORCH}"
        return Problem("the installed torch is built for the CPU", hint, by_torch=True)
    if driver.cuda is None:
        return Problem(
            f"driver {driver.version} is installed without its library for CUDA, libcuda.so.1",
            "On Debian: apt install libcuda1; on Ubuntu: the libnvidia-compute package of that "
            "driver; in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility.",
        )
    needed = int(torch_cuda.partition(".")[0])
    if driver.cuda[0] < needed:
        runs = ".".join(map(str, driver.cuda))
        older = f", or: {OLDER_CUDA}" if driver.cuda[0] == 12 else ""
        return Problem(
            f"driver {driver.version} runs CUDA up to {runs}, and torch needs CUDA {torch_cuda}",
            f"Install driver {DRIVERS.get(needed, DRIVERS[13])} or newer{older}.",
            by_torch=True,
        )
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (not visible.strip() or visible.strip().startswith("-")):
        return Problem(
            f"CUDA_VISIBLE_DEVICES is {visible!r}, which hides every GPU",
            "Unset it, or name one: CUDA_VISIBLE_DEVICES=0.",
        )
    if driver.gpus == 0:
        return Problem("the driver has no GPU", f"`nvidia-smi -L` must list one. {_NO_GPU}")
    return None


def without_kernels(
    name: str, capability: tuple[int, int], built_for: Sequence[str]
) -> Problem | None:
    """For a GPU that torch finds: a problem if it is older than all that torch is built for.

    `built_for` is torch.cuda.get_arch_list(), such as sm_75, sm_120, compute_120.
    """
    numbers = [int(digits[0]) for arch in built_for if (digits := re.findall(r"_(\d+)", arch))]
    if not numbers or 10 * capability[0] + capability[1] >= min(numbers):
        return None
    return Problem(
        f"{name} has compute capability {capability[0]}.{capability[1]}, and the installed torch "
        f"is built for {min(numbers) / 10} and newer",
        f"Install torch for older cards: {OLDER_CUDA}.",
        by_torch=True,
    )


def why_torch_finds_none(torch_cuda: str) -> Problem:
    """For a process in which torch finds no GPU. `torch_cuda` as in `problem`."""
    return problem(find_driver(), torch_cuda, os.environ) or Problem(
        "the driver has one, and the reason is unknown", f"Look at `nvidia-smi`. {_NO_GPU}"
    )


def _no_driver(driver: NoDriver) -> Problem:
    if driver.is_installed:
        return Problem(
            "NVIDIA's driver does not answer",
            "Restart the machine if the driver was updated; `nvidia-smi` shows the reason.",
        )
    return Problem(
        "no NVIDIA driver was found",
        f"Install driver {DRIVERS[13]} or newer; a container needs `--gpus all` and NVIDIA's "
        f"container toolkit. {_NO_GPU}",
    )
