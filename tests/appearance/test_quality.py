"""The rows of `make quality`: when a bar is met, and which clips there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality_case import case_names
from benchmarks.quality_row import Figure
from benchmarks.truth import truth_names


@pytest.mark.parametrize(
    ("figure", "is_met"),
    [
        (Figure("angle", 2.5, at_most=2.5), True),
        (Figure("angle", 2.6, at_most=2.5), False),
        (Figure("outline", 0.9, at_least=0.9), True),
        (Figure("outline", 0.89, at_least=0.9), False),
        (Figure("motion", None, at_most=0.45), False),
        (Figure("motion", None), True),
    ],
)
def test_a_figure_meets_its_bar_and_one_that_cannot_be_judged_meets_none(
    figure: Figure, is_met: bool
) -> None:
    assert figure.is_met == is_met


def test_every_truth_clip_is_measured_exact_noisy_and_wrong(test_media: Path) -> None:
    names = case_names(test_media)["appearance"]
    for clip in truth_names(test_media):
        kinds = {name.partition(", ")[2] for name in names if name.startswith(f"{clip}, ")}
        assert {"exact mesh", "1.5 % noise", "3 % noise", "frozen", "other subject"} <= kinds
