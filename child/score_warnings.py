"""Which warnings a view, a score and a texture need, and in which words. Pure functions.

The bounds are measured on clips with known meshes (benchmarks/quality.py): good meshes have outline
overlaps of .88 to .97, those of another subject .45 to .69; motion is .67 to .81 for good meshes
(.41 to .57 where the video hardly moves), -.06 to .15 for shuffled, reversed or frozen ones, .07 to
.40 for late or half motion (.21 to .34 there). Called by child/appearance.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appearance.score import FIRST_WINDOW, NEXT_WINDOW, Score
from meshes.view import View

GOOD_OUTLINE = 0.85
MOST_DRIFT = 0.08
"""Of the overlap, from the first window of frames to the last. Clips of 31 to 121 frames whose
meshes are good differ by up to .01."""
PAINTED_FROM, WORST_PAINTED = 0.75, 0.65
"""The mean and the worst overlap from which on colours land where they belong."""
NO_MOTION, _WEAK_MOTION = 0.2, 0.45
_WEAK_BY_VIDEO = 2.3
"""So many times the video's own motion is enough, too: where that is small, errors of the shape
count for more."""
LEAST_SEEN = 0.12
"""Part of the surface. A clip filmed from one side shows .17 to .38 of a mesh that fits exactly and
.13 to .35 of one that is slightly wrong: that is no reason to warn."""

Warned = tuple[str, str, dict[str, Any]]
"""Code, message and facts of a warning."""


def about_view(view: View, *, is_ambiguous: bool) -> Iterator[Warned]:
    """Of a view that was fitted, or given."""
    if is_ambiguous:
        message = (
            "Neither the outlines nor the colours tell from which side the video was filmed: front "
            "and back may be exchanged in the view and in the colours."
        )
        yield "view_ambiguous", message, {}
    if view.kind == "centred":
        message = (
            "The mesh does not travel as the subject does in the video: the view follows it from "
            "frame to frame."
        )
        yield "subject_drifts", message, {}


def about_score(score: Score) -> Iterator[Warned]:
    """What does not fit: outlines, motion."""
    yield from _about_outlines(score)
    if score.motion is None:
        return
    found = f"{score.motion:.2f}, where 1 is the video's motion and 0 is none"
    if score.motion < NO_MOTION:
        message = f"The mesh does not follow the motion of the video: {found}."
        yield "motion_mismatch", message, {}
    elif score.motion < least_motion(score):
        message = f"The mesh moves less than the subject in the video, or later: {found}."
        yield "motion_weak", message, {}


def _about_outlines(score: Score) -> Iterator[Warned]:
    """One warning for outlines that fit badly in all frames, or worse and worse."""
    mean, worst, k = score.outline_mean, score.outline_worst, score.worst_frame
    first, last = score.ends or (mean, mean)
    parts: list[str] = []
    facts: dict[str, Any] = {"frames": [k]}
    if mean < GOOD_OUTLINE:
        parts.append(
            f"The mesh fits the video's outlines badly: they overlap by {mean:.2f} on average and "
            f"by {worst:.2f} in frame {k}; {GOOD_OUTLINE:.2f} is good."
        )
    if first - last >= MOST_DRIFT:
        parts.append(
            f"The mesh fits the video less and less: the outlines overlap by {first:.2f} in the "
            f"first {FIRST_WINDOW} frames and by {last:.2f} in the last {NEXT_WINDOW}. A smaller "
            "`max_frames` leaves the end out."
        )
        facts |= {"outline_first": round(first, 3), "outline_last": round(last, 3)}
    if parts:
        yield "outline_poor", " ".join(parts), facts


def least_motion(score: Score) -> float:
    """The motion, 0 to 1, from which on meshes follow this video."""
    return min(_WEAK_MOTION, _WEAK_BY_VIDEO * score.video_motion)


def not_painted(score: Score) -> str:
    """Why these meshes get no colours: their outlines fit too badly; "" if they do not."""
    mean, worst = score.outline_mean, score.outline_worst
    if mean >= PAINTED_FROM and worst >= WORST_PAINTED:
        return ""
    return (
        f"It fits the video's outlines too badly to be painted: they overlap by {mean:.2f} on "
        f"average and by {worst:.2f} in frame {score.worst_frame}; {PAINTED_FROM:.2f} and "
        f"{WORST_PAINTED:.2f} are needed."
    )


def about_texture(seen: float) -> Iterator[Warned]:
    """`seen` is the part of the surface that the video shows, 0 to 1."""
    if seen < LEAST_SEEN:
        message = f"The video shows {seen:.0%} of the surface; the colours of the rest are guessed."
        yield "texture_mostly_guessed", message, {}
