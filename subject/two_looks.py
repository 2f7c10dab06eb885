"""Finds the subject of a busy scene: a saliency net looks twice, and motion says which thing it is.

1. A look at the whole picture in every 4th frame, carried along the flow to the others.
2. Two guesses, each a box per frame: what is salient and moves, and what moves most.
3. A closer look into both boxes in those frames. What moves and is clearly seen wins; where the
   client has chosen, what is in the chosen box.
4. A look into the winner's box in every other frame; the vote of neighbouring frames is mixed in.

Called by find.py and follow.py. Needs no plain background; says how sure it is.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from subject.motion import carry, vote
from subject.view import Answer, Boxes, Look, PixelBox, View, decidedness, mix, peak
from video.fields import Field, Mask

_STRIDE = 4
"""A look at every 2nd whole frame costs .9 s more for 16 frames and gains nothing (.748, .756)."""
_CLOSER = 1.7
"""Growth of the boxes of the first guess, which often lack a limb."""
_TIGHT = 1.5
"""Growth of the boxes from the closer looks. Perfect boxes grown 1.2, 1.4, 1.7 and 2.1 times give
.867, .880, .861 and .803."""
_CLEARLY_BETTER = 1.6
"""What only moves must be so much better than what is salient and moves: the ratio is 2.9 where it
is right (soapbox), at most 1.3 in the nine other clips."""
_STILL_SHARE = 0.25
"""What is salient and stands still counts this much."""
_LEAST_SPEED_PX = 0.3
_SAME_BOX = 0.1
"""IoU of the chosen box with that of a guess, from which they are the same thing: 0 where it is
another one, .19 for a small car that leaves its place once, .8 or more in the nine others."""
_ALIKE = 0.5
"""Mean IoU of two tracks from which the closer looks into one of them suffice."""
_LEAST_OTHER = 0.25
"""Area of another plausible subject, of the subject's."""
_MOVES_TOO = 0.25
"""Of the subject's speed: .02 for a thing in the background of a horse that jumps."""

Keys = dict[int, Look]
"""Looks into some of the frames, by frame."""


def find_salient_and_moving(view: View) -> Answer | None:
    """The subject's masks; None if there is nothing."""
    salient, tracks = _guesses(view, None, None)
    best = None
    for boxes, known in tracks:
        if best is not None and _alike(tracks[0][0], boxes):
            continue  # a closer look would see the same
        closer = _look_closer(view, boxes)
        score = _score(view, closer)
        if best is None or score > _CLEARLY_BETTER * best[0]:
            best = score, closer, known
    if best is None:
        return None
    answer = _look_everywhere(view, best[1], best[2])
    return answer and replace(answer, others=_others(view, salient[0], answer.alphas[0]))


def find_near(view: View, box: Boxes, near: list[Field], reached: list[Field]) -> Answer | None:
    """Masks of what fills `box` in the first frame; None if unsure.

    What is salient is sought where `near` is 1, what moves most where `reached` is 1.
    """
    _, tracks = _guesses(view, near, reached)
    fits = [_fit(view, boxes[0], box) for boxes, _ in tracks]
    if max(fits, default=0.0) < _SAME_BOX:
        return None
    boxes, known = tracks[int(np.argmax(fits))]
    closer = {**_look_closer(view, boxes), 0: view.look(0, view.around(box, _TIGHT))}
    return _look_everywhere(view, closer, known)


def _fit(view: View, guess: Boxes, box: Boxes) -> float:
    """IoU of the chosen box with a guess for the first frame, or with what a look into it shows."""
    seen = _box_of(view.shrunk(view.look(0, view.around(guess, _CLOSER))))
    fit = _overlap(guess, box)  # in smoke the net may see another thing in its box
    return fit if seen is None else max(fit, _overlap(np.array(seen) * view.scale, box))


def _keys(view: View) -> list[int]:
    return sorted({*range(0, view.count, _STRIDE), view.count - 1})


def _guesses(
    view: View, near: list[Field] | None, reached: list[Field] | None
) -> tuple[list[Field], list[tuple[Boxes, list[Field] | None]]]:
    """What is salient in each frame, and tracks of boxes with what is known about each."""
    looks = {t: view.shrunk(view.look(t, view.whole())) for t in _keys(view)}
    salient = vote(view.scene, vote(view.scene, _spread(view, looks)))
    speeds = _inside(view.motion, near)
    salient = _inside(salient, near)
    first = view.boxes_of(
        [_salient_part(likely, speed) for likely, speed in zip(salient, speeds, strict=True)]
    )
    second = view.boxes_of([_fastest_part(speed) for speed in _inside(view.motion, reached)])
    tracks = [(first, salient), (second, None)]
    return salient, [(boxes, known) for boxes, known in tracks if boxes is not None]


def _inside(fields: list[Field], places: list[Field] | None) -> list[Field]:
    return fields if places is None else [a * b for a, b in zip(fields, places, strict=True)]


def _spread(view: View, looks: dict[int, Field]) -> list[Field]:
    """For every frame the nearest look, carried along the flow."""
    nearest = [min(looks, key=lambda key: abs(key - t)) for t in range(view.count)]
    return [carry(view.scene, looks[key], key, t) for t, key in enumerate(nearest)]


def _salient_part(likely: Field, speed: Field) -> PixelBox | None:
    moves = _relative(cv2.GaussianBlur(speed, (0, 0), 3), 98)
    around = np.minimum(1, 2 * cv2.GaussianBlur(moves, (0, 0), 4))
    weight = likely * (_STILL_SHARE + (1 - _STILL_SHARE) * around) + 0.15 * moves
    clear = weight > max(0.25, 0.5 * float(np.percentile(weight, 99.5)))
    grown = cv2.dilate(clear.astype(np.uint8), np.ones((5, 5), np.uint8))
    count, label, stats, _ = cv2.connectedComponentsWithStats(grown)
    if count < 2:
        return None
    sums = np.bincount(label.ravel(), weight.ravel(), minlength=count)
    return _corners(stats[1 + int(np.argmax(sums[1:]))])


def _fastest_part(speed: Field) -> PixelBox | None:
    """The box around the fastest point and what near it moves at least .4 times as fast."""
    calm = cv2.GaussianBlur(speed, (0, 0), 3)
    fast = (calm > 0.4 * calm.max()).astype(np.uint8)
    _, label, stats, _ = cv2.connectedComponentsWithStats(fast)
    fastest = int(label.ravel()[int(np.argmax(calm))])
    return _corners(stats[fastest]) if fastest else None


def _relative(speed: Field, percentile: float) -> Field:
    """Speed from 0 to 1 at its percentile; less if nothing in the picture moves."""
    top = max(float(np.percentile(speed, percentile)), _LEAST_SPEED_PX)
    return np.asarray(np.clip(speed / top, 0, 1))


def _look_closer(view: View, boxes: Boxes) -> Keys:
    return {t: view.look(t, view.around(boxes[t], _CLOSER)) for t in _keys(view)}


def _score(view: View, looks: Keys) -> float:
    """How much more the thing moves than the rest, times how clearly the net sees it."""
    contrasts, decided = [0.0], [0.0]
    for t, look in looks.items():
        likely = view.shrunk(look)
        mask, speed = likely > 0.5, _relative(view.motion[t], 99)
        if 8 <= np.count_nonzero(mask) < mask.size:
            contrasts.append(float(speed[mask].mean() - speed[~mask].mean()))
            decided.append(decidedness(likely))
    return max(sum(contrasts), 0.02 * len(looks)) * sum(decided) / len(looks) ** 2


def _look_everywhere(view: View, closer: Keys, salient: list[Field] | None) -> Answer | None:
    """The masks, from looks into the boxes that the closer looks show."""
    small = {t: view.shrunk(look) for t, look in closer.items()}
    known = vote(view.scene, _spread(view, small))
    boxes = view.boxes_of([_box_of(field) for field in known])
    if boxes is None:
        return None
    if salient is not None:
        known = [0.7 * close + 0.3 * far for close, far in zip(known, salient, strict=True)]
    looks = [
        closer[t] if t in closer else view.look(t, view.around(boxes[t], _TIGHT))
        for t in range(view.count)
    ]
    return mix(view, looks, known)


def _box_of(likely: Field) -> PixelBox | None:
    """Around the large parts of what is likely, or as likely as anything there."""
    top = peak(likely)
    return None if top < 0.1 else _around_large_parts(likely > 0.5 * top)


def _around_large_parts(mask: Mask) -> PixelBox | None:
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    area = stats[:, cv2.CC_STAT_AREA]
    area[0] = 0
    if not area.max():
        return None
    return _corners(cv2.boundingRect((area > 0.15 * area.max())[label].astype(np.uint8)))


def _others(view: View, salient: Field, alpha: Field) -> tuple[PixelBox, ...]:
    """Boxes of other salient things that move in the first frame, the largest first."""
    own = cv2.resize(alpha, view.small, interpolation=cv2.INTER_AREA) > 127
    _, label, stats, _ = cv2.connectedComponentsWithStats((salient > 0.5).astype(np.uint8))
    least = max(_LEAST_OTHER * np.count_nonzero(own), 16)
    slowest = _MOVES_TOO * float(view.motion[0][own].mean()) if own.any() else 0.0
    others = [
        (stats[k, cv2.CC_STAT_AREA], _corners(stats[k]))
        for k in range(1, len(stats))
        if stats[k, cv2.CC_STAT_AREA] > least
        and own[label == k].mean() < 0.2
        and view.motion[0][label == k].mean() > slowest
    ]
    scaled = [
        np.round(np.array(box) * view.scale).astype(int).tolist() for _, box in sorted(others)
    ]
    return tuple((left, top, right, bottom) for left, top, right, bottom in reversed(scaled))


def _corners(rectangle: tuple[int, ...]) -> PixelBox:
    """Of x, y, width, height."""
    left, top, width, height = (int(side) for side in rectangle[:4])
    return left, top, left + width, top + height


def _alike(one: Boxes, two: Boxes) -> bool:
    pairs = zip(one, two, strict=True)
    return float(np.mean([_overlap(a, b) for a, b in pairs])) > _ALIKE


def _overlap(one: Boxes, two: Boxes) -> float:
    """IoU of two boxes."""
    low, high = np.maximum(one[:2], two[:2]), np.minimum(one[2:], two[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / float(np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2]) - both)
