"""Which warnings follow from the numbers of a score, a view and a texture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from appearance.score import Score, score_view
from child.score_warnings import (
    GOOD_OUTLINE,
    MOST_DRIFT,
    Warned,
    about_score,
    about_texture,
    about_view,
    not_painted,
)
from tests.appearance.animal_video import animal, camera, film

GOOD = Score(outlines=(0.93, 0.89, 0.92), motion=0.64, video_motion=0.3)


def codes(found: Iterable[Warned]) -> list[str]:
    return [code for code, _, _ in found]


def test_a_good_score_has_no_warning_and_is_painted() -> None:
    assert codes(about_score(GOOD)) == [] and not_painted(GOOD) == ""


@pytest.mark.parametrize(
    ("motion", "code"),
    [
        (-0.05, ["motion_mismatch"]),
        (0.19, ["motion_mismatch"]),
        (0.2, ["motion_weak"]),
        (0.44, ["motion_weak"]),
        (0.45, []),
        (None, []),  # the video hardly moves
    ],
)
def test_motion_is_judged_where_the_video_moves(motion: float | None, code: list[str]) -> None:
    assert codes(about_score(replace(GOOD, motion=motion))) == code


@pytest.mark.parametrize(("motion", "code"), [(0.36, ["motion_weak"]), (0.37, [])])
def test_less_motion_is_enough_where_the_video_moves_little(motion: float, code: list[str]) -> None:
    assert codes(about_score(replace(GOOD, motion=motion, video_motion=0.16))) == code


def test_a_poor_outline_names_its_numbers_and_the_worst_frame() -> None:
    ((code, message, facts),) = about_score(replace(GOOD, outlines=(0.84, 0.86, 0.8)))
    assert code == "outline_poor" and facts == {"frames": [2]}
    assert "0.83" in message and "0.80 in frame 2" in message


def test_a_mesh_that_drifts_from_window_to_window_is_told_with_numbers() -> None:
    clip, view = film(31, px=80), camera(31, px=80)
    meshes = animal(31)
    assert codes(about_score(score_view(meshes, clip, view, lambda _: None))) == []
    grows = 1 + 0.15 * np.clip(np.arange(31) - 16, 0, None) / 14
    drifting = replace(meshes, vertices=meshes.vertices * grows[:, None, None].astype(np.float32))
    score = score_view(drifting, clip, view, lambda _: None)
    assert score.outline_mean > GOOD_OUTLINE
    code, message, facts = next(about_score(score))
    assert code == "outline_poor" and facts["frames"] == [score.worst_frame]
    assert facts["outline_first"] - facts["outline_last"] >= MOST_DRIFT
    assert f"{facts['outline_last']:.2f} in the last 15" in message


def test_one_window_cannot_drift_and_frames_without_a_subject_do_not_count() -> None:
    falling = replace(GOOD, outlines=(0.95,) * 16 + (0.86,) * 14)
    assert falling.ends is None and codes(about_score(falling)) == []
    empty = replace(GOOD, outlines=(0.95,) * 31 + (0.0,) * 15, empty=tuple(range(31, 46)))
    assert empty.ends is None and codes(about_score(empty)) == []


@pytest.mark.parametrize(
    ("outlines", "is_painted"),
    [((0.75, 0.75), True), ((0.86, 0.65), True), ((0.86, 0.64), False), ((0.74, 0.75), False)],
)
def test_only_meshes_that_fit_are_painted(outlines: tuple[float, ...], is_painted: bool) -> None:
    reason = not_painted(replace(GOOD, outlines=outlines))
    assert (reason == "") == is_painted
    assert is_painted or (f"{min(outlines):.2f} in frame" in reason and "0.75" in reason)


def test_doubts_about_the_view() -> None:
    view = camera(3)
    assert codes(about_view(view, is_ambiguous=False)) == []
    drifting = replace(view, kind="centred")
    assert codes(about_view(drifting, is_ambiguous=True)) == ["view_ambiguous", "subject_drifts"]


def test_colours_that_the_video_hardly_shows() -> None:
    assert codes(about_texture(0.13)) == []
    ((code, message, _),) = about_texture(0.11)
    assert code == "texture_mostly_guessed" and "11%" in message
