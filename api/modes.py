"""Which modes and formats this machine supports: shown in /info, checked for each request.

job/options.py has the ranges that hold on every machine.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from errors import ModeUnavailable
from gpu_memory import needed_gb
from job.options import JobOptions
from pipeline import ACTIONMESH, MODES, Gpu, Mode, PipelineChoice


def default_mode(choice: PipelineChoice) -> Mode:
    """The best mode that this machine's GPU memory allows; `default` for the silhouette."""
    return next(mode for mode in MODES if is_available(mode, choice))


def is_available(mode: Mode, choice: PipelineChoice) -> bool:
    """True if this machine can run the mode; always True if jobs run on a cluster.

    The mode that needs least is never refused: how much it needs is only estimated.
    """
    if choice.name != "actionmesh" or choice.elsewhere or mode == MODES[-1]:
        return True
    return _memory_gb(choice.gpu) >= needed_gb(ACTIONMESH[mode].low_ram)


def parse_options(
    given: Mapping[str, Any],
    choice: PipelineChoice,
    base: JobOptions | None = None,
    has_mesh: bool = False,
) -> JobOptions:
    """The options in `given`; others as in `base` (another job's) or this machine's defaults.

    Raises InvalidParameter, ModeUnavailable.
    """
    options = (base or JobOptions(mode=default_mode(choice), mesh=has_mesh)).changed(given)
    if choice.name == "silhouette":  # the same with every seed
        options = options.model_copy(update={"tries": 1})
    if not is_available(options.mode, choice):
        raise ModeUnavailable(
            f"Mode {options.mode} needs about {ACTIONMESH[options.mode].min_vram_gb} GB of GPU "
            f"memory; this machine has {_memory_gb(choice.gpu):.0f} GB.",
            hint=f"Use mode={default_mode(choice)}.",
            mode=options.mode,
            gpu_memory_gb=_memory_gb(choice.gpu),
        )
    if "usdz" in options.formats and importlib.util.find_spec("pxr") is None:
        raise ModeUnavailable(
            "This server cannot write usdz: the package usd-core is not installed.",
            hint="Leave `usdz` out of `formats`, or install requirements/usd.txt on the server.",
        )
    return options


def _memory_gb(gpu: Gpu | None) -> float:
    return gpu.memory_gb if gpu else 0.0
