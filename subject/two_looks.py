"""Finds the subject of a busy scene: a saliency net looks twice, and motion says which thing it is.

1. A look at the whole picture in every 4th frame, carried along the flow to the others.
2. Two guesses, each a box per frame: what is salient and moves, and what moves most.
3. A closer look into both boxes in those frames. What moves and is clearly seen wins.
4. A look into the winner's box in every other frame; the vote of neighbouring frames is mixed in.

Called by find.py. Needs no plain background; says how sure it is.
"""

from __future__ import annotations

import cv2
import numpy as np

from subject.motion import carry, vote
from subject.view import Answer, Boxes, Look, View, decidedness, mix
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


def find_salient_and_moving(view: View) -> Answer | None:
    """The subject's masks; None if there is nothing."""
    keys = sorted({*range(0, view.count, _STRIDE), view.count - 1})
    looks = {t: view.shrunk(view.look(t, view.whole())) for t in keys}
    salient = vote(view.scene, vote(view.scene, _spread(view, looks)))
    moving = view.boxes_of([_fastest_part(speed) for speed in view.motion])
    guess = _salient_and_moving(view, salient)
    best = None
    for boxes, is_salient in ((guess, True), (moving, False)):
        if boxes is None:
            continue
        closer = {t: view.look(t, view.around(boxes[t], _CLOSER)) for t in keys}
        score = _score(view, closer)
        if best is None or score > _CLEARLY_BETTER * best[0]:
            best = score, closer, is_salient
    if best is None:
        return None
    _, closer, is_salient = best
    known = vote(view.scene, _spread(view, {t: view.shrunk(look) for t, look in closer.items()}))
    boxes = view.boxes_of([_box_of(field > 0.5) for field in known])
    if boxes is None:
        return None
    if is_salient:
        known = [0.7 * near + 0.3 * far for near, far in zip(known, salient, strict=True)]
    return mix(view, _look_everywhere(view, boxes, closer), known)


def _spread(view: View, looks: dict[int, Field]) -> list[Field]:
    """For every frame the nearest look, carried along the flow."""
    nearest = [min(looks, key=lambda key: abs(key - t)) for t in range(view.count)]
    return [carry(view.scene, looks[key], key, t) for t, key in enumerate(nearest)]


def _salient_and_moving(view: View, salient: list[Field]) -> Boxes | None:
    boxes = []
    for likely, speed in zip(salient, view.motion, strict=True):
        moves = _relative(cv2.GaussianBlur(speed, (0, 0), 3), 98)
        near = np.minimum(1, 2 * cv2.GaussianBlur(moves, (0, 0), 4))
        weight = likely * (_STILL_SHARE + (1 - _STILL_SHARE) * near) + 0.15 * moves
        clear = weight > max(0.25, 0.5 * float(np.percentile(weight, 99.5)))
        boxes.append(_heaviest_part(clear, weight))
    return view.boxes_of(boxes)


def _heaviest_part(mask: Mask, weight: Field) -> tuple[int, int, int, int] | None:
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    count, label, stats, _ = cv2.connectedComponentsWithStats(grown)
    if count < 2:
        return None
    sums = np.bincount(label.ravel(), weight.ravel(), minlength=count)
    left, top, width, height = stats[1 + int(np.argmax(sums[1:])), :4].tolist()
    return left, top, left + width, top + height


def _fastest_part(speed: Field) -> tuple[int, int, int, int] | None:
    """The box around the fastest point and what near it moves at least .4 times as fast."""
    calm = cv2.GaussianBlur(speed, (0, 0), 3)
    _, label, stats, _ = cv2.connectedComponentsWithStats(
        (calm > 0.4 * calm.max()).astype(np.uint8)
    )
    fastest = int(label.ravel()[int(np.argmax(calm))])
    if not fastest:
        return None
    left, top, width, height = stats[fastest, :4].tolist()
    return left, top, left + width, top + height


def _relative(speed: Field, percentile: float) -> Field:
    """Speed from 0 to 1 at its percentile; less if nothing in the picture moves."""
    top = max(float(np.percentile(speed, percentile)), _LEAST_SPEED_PX)
    return np.asarray(np.clip(speed / top, 0, 1))


def _score(view: View, looks: dict[int, Look]) -> float:
    """How much more the thing moves than the rest, times how clearly the net sees it."""
    contrasts, decided = [], []
    for t, look in looks.items():
        likely = view.shrunk(look)
        mask, speed = likely > 0.5, _relative(view.motion[t], 99)
        if not 8 <= np.count_nonzero(mask) < mask.size:
            contrasts.append(0.0)
            decided.append(0.0)
            continue
        contrasts.append(float(speed[mask].mean() - speed[~mask].mean()))
        decided.append(decidedness(likely))
    return max(float(np.mean(contrasts)), 0.02) * float(np.mean(decided))


def _box_of(mask: Mask) -> tuple[int, int, int, int] | None:
    """Around the large parts."""
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    area = stats[:, cv2.CC_STAT_AREA]
    area[0] = 0
    if not area.max():
        return None
    left, top, width, height = cv2.boundingRect((area > 0.15 * area.max())[label].astype(np.uint8))
    return left, top, left + width, top + height


def _look_everywhere(view: View, boxes: Boxes, known: dict[int, Look]) -> list[Look]:
    return [
        known[t] if t in known else view.look(t, view.around(boxes[t], _TIGHT))
        for t in range(view.count)
    ]
