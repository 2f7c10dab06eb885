"""Which warnings follow from the numbers of a score, a view and a texture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from appearance.score import Score
from child.score_warnings import Warned, about_score, about_texture, about_view, not_painted
from tests.appearance.animal_video import camera

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
