"""Asks the program of intake/child_main.py about a file: in the sandbox, one question, one answer.

The API process itself reads no more of a stranger's file than the bytes that tell its format. A
program that dies of the file, or needs too much memory or time, is the file's fault; one that was
killed from outside is not. Called by inspect.py and glb.py.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from errors import ERRORS_BY_CODE, InternalError, ServiceError
from video.sandbox import ENVIRONMENT, Limits, OutOfTime, ffmpeg_path, run_sandboxed

OUT_OF_MEMORY = 64
"""The program's exit status if it reached its limit of memory."""

_PROGRAM = str(Path(__file__).with_name("child_main.py"))
_ANSWER_BYTES = 1 << 16
_LIMITS = Limits(cpu_s=60)
_WALL_S = 180.0  # ffmpeg, which the program runs, has its own and shorter limits

log = logging.getLogger(__name__)


class FileTooHard(Exception):
    """The program died of the file, or ran out of memory or time."""


def ask(question: dict[str, Any], *, with_packages: bool = False) -> dict[str, Any]:
    """The answer, a JSON object. `with_packages` lets the program import what this process can.

    Raises FileTooHard, and the ServiceError with which the file was refused.
    """
    command = [sys.executable, "-I", "-S", _PROGRAM]
    packages = list(filter(None, sys.path)) if with_packages else []
    environment = {**ENVIRONMENT, "IMAGEIO_FFMPEG_EXE": ffmpeg_path(), "OPENBLAS_NUM_THREADS": "1"}
    try:
        with run_sandboxed(
            [json.dumps({**question, "packages": packages})],
            program=command,
            environment=environment,
            stdin=iter(()),
            wall_s=_WALL_S,
            limits=_LIMITS,
        ) as child:
            answer = child.read(_ANSWER_BYTES)
            status, stderr = child.finish()
    except OutOfTime as exc:
        raise FileTooHard("out of time") from exc
    if stderr:
        log.log(logging.INFO if status <= 0 else logging.ERROR, "%s", stderr[-2000:].strip())
    if status < 0 or status == OUT_OF_MEMORY:
        raise FileTooHard(f"status {status}")
    if status != 0:
        raise InternalError("The program that reads uploads failed.")
    return _checked(answer)


def _checked(answer: bytes) -> dict[str, Any]:
    """What was found. Raises the ServiceError that was answered, InternalError for other text."""
    try:
        record = json.loads(answer)
        found, refused = record.get("found"), record.get("refused")
    except (ValueError, AttributeError):
        found = refused = None
    if isinstance(found, dict):
        return found
    if isinstance(refused, dict) and refused.get("code") in ERRORS_BY_CODE:
        raise ServiceError.from_dict(refused)
    raise InternalError("The program that reads uploads gave no valid answer.")


def number(answer: dict[str, Any], name: str, least: float, most: float) -> float:
    """One number of an answer. Raises InternalError for anything else."""
    value = answer.get(name)
    if isinstance(value, int | float) and least <= value <= most:
        return value
    raise InternalError("The program that reads uploads gave no valid answer.")
