"""Two things in a busy scene, and nothing chosen: the other one is offered if it moves, too."""

from __future__ import annotations

import numpy as np
import pytest

from job.options import JobOptions
from subject.checks import as_fractions
from subject.find import find_subject
from subject.model import load_model
from tests.silhouette.measure import ReportLog, as_clip
from tests.silhouette.synthetic_clips import busy, on_background, walker

_SIDE = 256

pytestmark = pytest.mark.skipif(load_model() is None, reason="the net's file is not installed")


@pytest.mark.parametrize("second_moves", [True, False])
def test_another_thing_that_moves_is_offered(second_moves: bool) -> None:
    one, mask = walker(4, side=_SIDE, speed=0.02)
    two, other = walker(4, side=_SIDE, speed=-0.02, size=0.8)
    if not second_moves:
        two[:], other[:] = two[0], other[0]
    frames, masks = np.concatenate([one, two], 2), np.concatenate([mask, other], 2)
    scene = busy(4, 2 * _SIDE, pan=0.0)[:, :_SIDE]
    log = ReportLog()
    found = find_subject(as_clip(on_background(frames, masks, scene)), None, log)
    assert found.method == "model"
    if not second_moves:
        assert "several_subjects" not in log.facts
        return
    middles = []
    for text in log.facts["several_subjects"]["boxes"]:
        left, _, right, _ = (float(side) for side in text.split(","))
        middles.append((left + right) / 2)
    assert sorted(middles) == pytest.approx([0.25, 0.75], abs=0.1)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (999, 499, 1000, 500), (300, 20, 302, 400)])
def test_the_box_of_a_thin_thing_can_be_sent_back(box: tuple[int, int, int, int]) -> None:
    text = as_fractions(box, (500, 1000))
    options = JobOptions(mode="fast").changed({"subject_box": text})
    assert options.subject_choice is not None
