"""Finds the subject in every frame of a clip: the step before the mesh, and the least certain one.

Ways, in order: the clip's alpha channel; the box or point that the client has chosen; a plain
background; a saliency net with motion (two_looks.py); motion alone, where the net cannot be had.
Raises NoSubjectFound where it is no subject, warns where it is doubtful. Called by child/recipe.py
and by pipelines; makes no mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count as counter

import cv2
import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound
from pipeline import Reporter, SubjectChoice
from subject.checks import LEAST_MOTION_PX, check_coverage, check_motion, warn_about
from subject.choice import keep_chosen
from subject.cutout import Cutout, resized, softened, whole_frame
from subject.follow import follow
from subject.mask_check import moving_beside
from subject.model import Model, load_model
from subject.motion import measure_scene, residual_motion
from subject.motion_grabcut import segment_by_motion
from subject.plain_clip import cut_from_dotted_background, cut_from_plain_background
from subject.two_looks import find_salient_and_moving
from subject.view import Answer, PixelBox, View
from video.clip import Clip
from video.fields import Field, Mask

SURE = 0.75
"""Confidence from which there is no warning. Of clips at or above it the masks' mean IoU is
.92, of those below .71 (`python -m benchmarks.subject`)."""
_TRANSPARENT_SHARE = 0.005
"""An alpha channel is used if at least this share of the clip's pixels is transparent."""
_AGREES = 0.4
"""IoU of a plain background's mask with the net's: .7 to .99 where it is plain, .00 and .14 in
scenes that only pass as plain."""
_MOST_BESIDE = 0.27
"""Areas of the mask that move beside it. Right masks whose background stands still have .14 to .19;
a drawn walker without its legs .38 to .69. Water around a swan has 1.35: a needless warning."""
_SEEN_MIRRORED = 0.5
"""Mean IoU of masks with mirrored looks: .76 to .99 for right masks, .14 for a test card's bars."""
_SAME_MIRRORED = 0.95
"""IoU of masks with mirrored looks: .98 and more for cars with their shadows, .72 to .91 for drawn
walkers without legs."""


@dataclass(frozen=True)
class Subject:
    """The clip with alpha, and how it was found.

    `method` is alpha, box, point, plain_background, model or motion_grabcut; `confidence` is from 0
    to 1; 1 where nothing had to be guessed.
    """

    clip: Clip
    method: str
    confidence: float = 1.0


@dataclass(frozen=True)
class _Found:
    """Masks `alphas` uint8 `(T, H, W)`; `method` and `confidence` as in Subject.

    The clip gets them last: until then there is one copy of its frames, not two.
    """

    alphas: NDArray[np.uint8]
    method: str
    confidence: float = 1.0
    others: tuple[PixelBox, ...] = ()
    """Boxes of other things in the first frame that could be the subject."""
    doubt: str = ""
    """A clause: what speaks against these masks."""


def find_subject(clip: Clip, choice: SubjectChoice | None, reporter: Reporter) -> Subject:
    """The subject, or the one that `choice` names. Reports stage background.

    Raises NoSubjectFound. Warnings: low_confidence_segmentation, subject_touches_border,
    subject_area_changes, several_subjects.
    """
    count = len(clip)
    reporter.progress("background", 0, count, "looking for the subject")

    def tick(step: int) -> None:
        reporter.progress("background", step, count)

    found = _find(clip, choice, tick)
    check_coverage(clip, found.alphas, found.method)
    if found.confidence < SURE:
        reporter.warning("low_confidence_segmentation", _doubt(found))
    warn_about(found.alphas, found.others, reporter)
    tick(count)
    cut_out = clip if found.method == "alpha" and choice is None else clip.with_alpha(found.alphas)
    return Subject(cut_out, found.method, found.confidence)


def has_usable_alpha(clip: Clip) -> bool:
    """False if the clip has no alpha, or one that is opaque (nearly) everywhere."""
    if not clip.has_alpha:
        return False
    clear = sum(int(np.count_nonzero(frame[..., 3] < 128)) for frame in clip.frames)
    return clear >= _TRANSPARENT_SHARE * clip.frames[..., 3].size


def _find(clip: Clip, choice: SubjectChoice | None, tick: Callable[[int], None]) -> _Found:
    if has_usable_alpha(clip):
        found = _Found(clip.frames[..., 3], "alpha")
    else:
        model = load_model()
        if choice is not None and model is not None:
            answer, _ = _with_model(clip, model, tick, partial(follow, choice=choice))
            method = "box" if choice.box is not None else "point"
            return _Found(answer.alphas, method, answer.confidence)
        found = _without_choice(clip, model, tick)
    if choice is None:
        return found
    return replace(found, alphas=keep_chosen(found.alphas, choice))


def _without_choice(clip: Clip, model: Model | None, tick: Callable[[int], None]) -> _Found:
    plain = cut_from_plain_background(clip, tick)
    if plain is not None and (model is None or _agrees(clip, plain, model)):
        return _Found(plain, "plain_background")
    if model is None:
        return _from_motion_alone(clip, tick)
    dotted = None if plain is not None else cut_from_dotted_background(clip, tick)
    if dotted is not None and _agrees(clip, dotted, model):
        return _Found(dotted, "plain_background")
    try:
        return _from_two_looks(clip, model, tick)
    except NoSubjectFound:
        if plain is None:
            raise
        return _Found(plain, "plain_background", 0.0)


def _agrees(clip: Clip, plain: NDArray[np.uint8], model: Model) -> bool:
    """True if a look around the subject of a middle frame finds about the same mask."""
    frame, mask = clip.frames[len(clip) // 2], plain[len(clip) // 2] > 127
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    reach = round(0.35 * max(width, height)) + 8
    part = np.s_[
        max(top - reach, 0) : top + height + reach, max(left - reach, 0) : left + width + reach
    ]
    seen = (
        cv2.resize(model.look(np.ascontiguousarray(frame[part][..., :3])), mask[part].shape[::-1])
        > 0.5
    )
    both, either = np.count_nonzero(seen & mask[part]), np.count_nonzero(seen | mask[part])
    return bool(both > _AGREES * either)


def _with_model(
    clip: Clip, model: Model, tick: Callable[[int], None], way: Callable[[View], Answer | None]
) -> tuple[Answer, View]:
    count = len(clip)
    scene = measure_scene(resized(clip.frames, whole_frame(clip.frames)), lambda t: tick(t // 10))
    looks = counter()
    view = View(
        clip.frames,
        scene,
        residual_motion(scene),
        model,
        lambda: tick(min(count, count // 10 + next(looks) * 2 // 3)),
    )
    answer = way(view)
    if answer is None:
        raise NoSubjectFound("Nothing in the picture looks like a subject.", method="model")
    return answer, view


def _from_two_looks(clip: Clip, model: Model, tick: Callable[[int], None]) -> _Found:
    """What motion, or a mirrored look, has against the masks halves the confidence."""
    answer, view = _with_model(clip, model, tick, find_salient_and_moving)
    found = _Found(answer.alphas, "model", answer.confidence, answer.others)
    masks = [cv2.resize(a, view.small, interpolation=cv2.INTER_AREA) > 127 for a in answer.alphas]
    speed = _speed(masks, view.motion)
    if speed < LEAST_MOTION_PX:
        raise _does_not_move(speed)
    mirrored = _mirrored_overlaps(view, masks)
    if np.mean(mirrored) < _SEEN_MIRRORED:
        doubt = "in mirrored frames another thing stands out"
    elif moving_beside(view.motion, masks) > _MOST_BESIDE and min(mirrored) < _SAME_MIRRORED:
        doubt = "much moves close to it"
    else:
        return found
    return replace(found, confidence=found.confidence / 2, doubt=doubt)


def _mirrored_overlaps(view: View, masks: list[Mask]) -> list[float]:
    """IoU of the masks with looks at two mirrored frames: a real thing looks alike in both."""
    overlaps = []
    for t in (len(masks) // 4, 3 * len(masks) // 4):
        left, top, width, height = cv2.boundingRect(masks[t].astype(np.uint8))
        box = np.array([left, top, left + width, top + height]) * view.scale
        look = view.look(t, view.around(box, 1.5), mirrored=True)
        seen = view.shrunk(look) > 0.5
        either = int(np.count_nonzero(seen | masks[t]))
        overlaps.append(int(np.count_nonzero(seen & masks[t])) / max(either, 1))
    return overlaps


def _speed(masks: list[Mask], motion: list[Field]) -> float:
    """Of the subject's fastest parts against the background; 0 if it never moves."""
    speeds = [
        float(np.percentile(speed[mask], 90) - np.median(speed[~mask]))
        for mask, speed in zip(masks, motion, strict=True)
        if 0 < mask.mean() < 1
    ]
    return max(0.0, float(np.median(speeds))) if speeds else 0.0


def _does_not_move(speed: float) -> NoSubjectFound:
    return NoSubjectFound(
        "The background is not plain, and what stands out in the picture does not move "
        f"({speed:.2f} px per frame, needed {LEAST_MOTION_PX:.2f}).",
        hint="If it is the subject, choose it with a box or a point: that is followed in any case.",
        method="model",
        motion_px=round(speed, 3),
        min_motion_px=LEAST_MOTION_PX,
    )


def _from_motion_alone(clip: Clip, tick: Callable[[int], None]) -> _Found:
    whole = whole_frame(clip.frames)
    motion = segment_by_motion(resized(clip.frames, whole), tick)
    cutout = Cutout(softened(motion.masks, 1.0), whole)
    check_motion(motion, cutout.alphas)
    return _Found(cutout.onto(clip), "motion_grabcut", 0.5)


def _doubt(found: _Found) -> str:
    if found.method == "motion_grabcut":
        return (
            "The background is not plain, the clip has no alpha channel, and the net that finds "
            "subjects is not installed here: the subject was found by its motion and colour, and "
            "may contain background or lack parts."
        )
    if found.method == "plain_background":
        return (
            "The background looks plain, but what differs from it does not look like a subject: "
            "the mesh may contain background or lack parts."
        )
    why = found.doubt or "it does not stand out"
    return (
        f"The subject is not clear: {why} (confidence {found.confidence:.2f}, sure from "
        f"{SURE:.2f}). The mesh may contain background or lack parts, or be of another thing."
    )
