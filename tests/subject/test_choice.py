"""Choosing a part of masks that are known, and the boxes that a client can choose from."""

from __future__ import annotations

import numpy as np
import pytest

from errors import NoSubjectFound
from pipeline import SubjectChoice
from subject.find import find_subject
from tests.silhouette.measure import ReportLog, as_clip
from tests.silhouette.synthetic_clips import Frames, walker, with_alpha


@pytest.fixture(scope="module")
def pair() -> Frames:
    """Two walkers side by side, with alpha."""
    return np.concatenate([with_alpha(*walker(count=4, side=96))] * 2, axis=2)


@pytest.mark.parametrize(
    "choice", [SubjectChoice(box=(0.5, 0.0, 1.0, 1.0)), SubjectChoice(point=(0.75, 0.5))]
)
def test_only_the_chosen_part_of_the_alpha_is_used(pair: Frames, choice: SubjectChoice) -> None:
    log = ReportLog()
    found = find_subject(as_clip(pair), choice, log)
    alpha = found.clip.frames[..., 3]
    assert found.method == "alpha"
    assert not alpha[:, :, :96].any()
    assert np.array_equal(alpha[:, :, 96:], pair[:, :, 96:, 3])
    assert "several_subjects" not in log.warnings


def test_nothing_where_the_subject_was_chosen_is_an_error(pair: Frames) -> None:
    with pytest.raises(NoSubjectFound, match="where the subject was chosen"):
        find_subject(as_clip(pair), SubjectChoice(point=(0.5, 0.01)), ReportLog())


def test_several_subjects_are_listed_with_boxes_to_choose_from(pair: Frames) -> None:
    log = ReportLog()
    find_subject(as_clip(pair), None, log)
    boxes = log.facts["several_subjects"]["boxes"]
    assert len(boxes) == 2
    for text in boxes:
        left, top, right, bottom = (float(side) for side in text.split(","))
        choice = SubjectChoice(box=(left, top, right, bottom))
        again = find_subject(as_clip(pair), choice, ReportLog())
        assert 0.4 < (again.clip.frames[..., 3] > 127).sum() / (pair[..., 3] > 127).sum() < 0.6
