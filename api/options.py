"""The options of a job: parsed from a form or a JSON body, checked, defaults filled in.

A form sends text, JSON sends numbers and booleans; both mean the same. Every fault is an
InvalidParameter that names the field, the value found and the value needed.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from errors import InvalidParameter, ModeUnavailable
from job.state import JobOptions
from pipeline import Gpu, PipelineChoice
from presets import ACTIONMESH, MAX_FRAMES, MIN_FRAMES, MODES, Mode

FORMATS = ("usdz", "npz")
MAX_SEED = 2**32 - 1
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)

_NEEDED_GB: dict[Mode, float] = {"default": 30.0, "fast": 15.0, "fast_low_ram": 0.0}
"""GPU memory that a mode needs here, in GB of 1e9 bytes: a little less than upstream publishes, for
a card sold as 16 GB reports less."""


def default_mode(choice: PipelineChoice) -> Mode:
    """The best mode that this machine's GPU memory allows; `default` for the silhouette."""
    return next(mode for mode in MODES if is_available(mode, choice))


def is_available(mode: Mode, choice: PipelineChoice) -> bool:
    """True if this machine can run the mode; on a cluster's machines it may be tried."""
    if choice.name != "actionmesh" or choice.elsewhere:
        return True
    return _memory_gb(choice.gpu) >= _NEEDED_GB[mode]


def parse_options(
    given: Mapping[str, Any], choice: PipelineChoice, base: JobOptions | None = None
) -> JobOptions:
    """The options in `given` over those of `base` (another job's) or the defaults.

    None and empty text count as not given. Raises InvalidParameter, ModeUnavailable.
    """
    options = base or JobOptions(mode=default_mode(choice))
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or value == "":
            continue
        parse, need = _PARSERS[name]
        try:
            found[name] = parse(value)
        except (ValueError, TypeError):
            raise _invalid(name, value, need) from None
    options = replace(options, **found)
    _check_machine(options, choice)
    return options


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise InvalidParameter for the first unknown name, with the nearest known one."""
    known = tuple(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), known, 1, 0.6)
            shown = json.dumps(name[:80], ensure_ascii=False)
            guess = f" Did you mean `{near[0]}`?" if near else ""
            raise InvalidParameter(
                f"There is no field {shown}.{guess}", field=name[:80], fields=list(known)
            )


def _check_machine(options: JobOptions, choice: PipelineChoice) -> None:
    """Refuse what this machine cannot make, before anything is stored."""
    mode = options.mode
    if not is_available(mode, choice):
        best = default_mode(choice)
        raise ModeUnavailable(
            f"Mode {mode} needs about {ACTIONMESH[mode].min_vram_gb} GB of GPU memory; "
            f"this machine has {_memory_gb(choice.gpu):.0f} GB.",
            hint=f"Use mode={best}.",
            mode=mode,
            gpu_memory_gb=_memory_gb(choice.gpu),
        )
    if "usdz" in options.formats and importlib.util.find_spec("pxr") is None:
        raise ModeUnavailable(
            "This server cannot write usdz: the package usd-core is not installed.",
            hint="Leave `usdz` out of `formats`, or install requirements-usd.txt on the server.",
        )


def _memory_gb(gpu: Gpu | None) -> float:
    return gpu.memory_gb if gpu else 0.0


def _invalid(name: str, value: object, need: str) -> InvalidParameter:
    shown = json.dumps(value, ensure_ascii=False, default=str)[:80]
    hint = None
    if isinstance(value, str) and name == "mode":
        near = difflib.get_close_matches(value.lower(), MODES, 1, 0.5)
        hint = f"Did you mean `{near[0]}`?" if near else None
    return InvalidParameter(f"{name} must be {need}, not {shown}.", hint=hint, field=name)


# --- one parser per kind; each raises ValueError or TypeError


def _number(low: float, high: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError(value)
        if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
            raise ValueError(value)
        try:
            number = float(value)
        except OverflowError:  # a whole number of more than 300 digits
            number = math.inf
        if not low <= number <= high:
            raise ValueError(value)
        return number

    return parse


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError(value)
        if isinstance(value, str) and not _WHOLE.fullmatch(value.strip()):
            raise ValueError(value)
        if isinstance(value, float) and not value.is_integer():  # also NaN and infinity
            raise ValueError(value)
        number = int(value)
        if not low <= number <= high:
            raise ValueError(value)
        return number

    return parse


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "1", "on", "yes"):
        return True
    if text in ("false", "0", "off", "no"):
        return False
    raise ValueError(value)


def _mode(value: Any) -> str:
    if value not in MODES:
        raise ValueError(value)
    return str(value)


def _formats(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else str(value).split(",")
    cleaned = [str(name).strip().lower() for name in names]
    if not all(name in FORMATS for name in cleaned):
        raise ValueError(value)
    return tuple(dict.fromkeys(cleaned))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value.strip()


_PARSERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mode": (_mode, f"one of {', '.join(MODES)}"),
    "blender_export": (_flag, "true or false"),
    "start": (_number(0.0, 86_400.0), "a number of seconds from 0 to 86400"),
    "fps": (_number(1.0, 60.0), "a number from 1 to 60"),
    "max_frames": (_whole(MIN_FRAMES, MAX_FRAMES), f"from {MIN_FRAMES} to {MAX_FRAMES}"),
    "seed": (_whole(0, MAX_SEED), f"a whole number from 0 to {MAX_SEED}"),
    "formats": (_formats, f"a comma list of {', '.join(FORMATS)}"),
    "video_url": (_text, "an http or https address"),
    "webhook_url": (_text, "an http or https address"),
}

OPTION_NAMES: tuple[str, ...] = tuple(_PARSERS)
RETRY_NAMES = ("mode", "seed", "fps", "start", "max_frames")
"""What a retry may change."""
