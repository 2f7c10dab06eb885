"""The text of `subject_box` and `subject_point`: parsed, checked, and written in one form.

Fractions of the first frame used, from its upper left corner. Called by options.py, and by
child/subject_files.py to write a box.
"""

from __future__ import annotations

import json
import re
from typing import Any

LEAST_SIDE = 0.01
"""Of a box, as a fraction of the picture's side."""
_DECIMALS = 4
"""Half a pixel in a picture of 5,000; more would only make the text longer."""

_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?"
BOX, POINT = ("left", "top", "right", "bottom"), ("x", "y")
"""What the numbers are, in their order."""


class NotAChoice(ValueError):
    """The message goes on after the name of the field: what it must be, and what was found."""


def pattern(names: tuple[str, ...]) -> str:
    """The regular expression of a field with these numbers, for OpenAPI; empty is not given."""
    return f"^( *{_NUMBER} *(, *{_NUMBER} *){{{len(names) - 1}}})?$"


def parse_box(value: Any) -> str:
    """The canonical text of a box. Raises NotAChoice."""
    box = _fractions(value, BOX)
    for low, high in ((0, 2), (1, 3)):
        if box[high] - box[low] < LEAST_SIDE - 1e-9:
            raise NotAChoice(
                f"must be at least {LEAST_SIDE} wide and high: its {BOX[low]} is {box[low]:g} and "
                f"its {BOX[high]} {box[high]:g}."
            )
    return as_text(box)


def parse_point(value: Any) -> str:
    """The canonical text of a point. Raises NotAChoice."""
    return as_text(_fractions(value, POINT))


def as_text(numbers: tuple[float, ...]) -> str:
    """The canonical text of these fractions: `0.25,0,0.75,1`."""
    return ",".join(f"{round(number, _DECIMALS) + 0.0:.{_DECIMALS}g}" for number in numbers)


def as_numbers(text: str) -> tuple[float, ...]:
    """The inverse of `as_text`."""
    return tuple(float(number) for number in text.split(","))


def _fractions(value: Any, names: tuple[str, ...]) -> tuple[float, ...]:
    need = f"must be {len(names)} numbers from 0 to 1 with commas between ({', '.join(names)})"
    shown = json.dumps(value, ensure_ascii=False, default=str)[:80]
    parts = value.split(",") if isinstance(value, str) else []
    if not parts or not all(re.fullmatch(f" *{_NUMBER} *", part) for part in parts):
        raise NotAChoice(f"{need}, not {shown}.")
    if len(parts) != len(names):
        raise NotAChoice(f"{need}, not {len(parts)}: {shown}.")
    numbers = tuple(round(float(part), _DECIMALS) for part in parts)
    for name, number in zip(names, numbers, strict=True):
        if not 0 <= number <= 1:
            raise NotAChoice(f"{need}: its {name} is {number:g}, outside the picture.")
    return numbers
