"""Which way ActionMesh's subject is found: the setting SUBJECT, and what the client has chosen.

RMBG, upstream's own way, works inside the job (background.py); every other way makes an alpha
channel before it, which upstream then uses as it is. Called by actionmesh_wrapper.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound
from pipeline import Reporter, SubjectChoice
from settings import SubjectWay
from subject.find import find_subject, has_usable_alpha
from upstream.sam2 import Sam2Unavailable
from video.clip import Clip

log = logging.getLogger(__name__)

Follow = Callable[[Clip, SubjectChoice], NDArray[np.uint8]]
"""Alpha uint8 `(T, H, W)` by SAM 2. Raises Sam2Unavailable."""


def with_chosen_alpha(
    clip: Clip, choice: SubjectChoice | None, way: SubjectWay, follow: Follow, reporter: Reporter
) -> Clip:
    """The clip with the chosen alpha, or unchanged where its own alpha or RMBG's shall be used.

    A choice is always followed: by SAM 2, else on the CPU, with the warning sam2_unavailable.
    Raises NoSubjectFound.
    """
    if choice is None and (way in ("auto", "rmbg") or has_usable_alpha(clip)):
        return clip
    if way == "model":
        return _complete(find_subject(clip, choice, reporter).clip)
    found = None
    if choice is None:
        found = _complete(find_subject(clip, None, reporter).clip)
        choice = SubjectChoice(box=_box(found.frames[0, ..., 3]))
    try:
        return _complete(clip.with_alpha(follow(clip, choice)))
    except Sam2Unavailable as exc:
        log.warning("SAM 2 was not used: %s", exc, exc_info=exc.__cause__)
        reporter.warning(
            "sam2_unavailable",
            f"The subject was found on the CPU and not by SAM 2, because {exc}.",
        )
    return found if found is not None else _complete(find_subject(clip, choice, reporter).clip)


def _box(alpha: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """The box of what is not clear, in fractions of the picture."""
    height, width = alpha.shape
    left, top, across, down = cv2.boundingRect((alpha > 127).astype(np.uint8))
    return left / width, top / height, (left + across) / width, (top + down) / height


def _complete(clip: Clip) -> Clip:
    """The clip, whose every frame shows the subject: upstream would look for another in those
    that do not. Raises NoSubjectFound with the number of the first of them, from 1."""
    from actionmesh.preprocessing.image_processor import is_valid_alpha

    for number, frame in enumerate(clip.frames, start=1):
        if not is_valid_alpha(frame[..., 3]):
            seen = float((frame[..., 3] > 127).mean())
            raise NoSubjectFound(
                f"The subject covers {seen:.1%} of frame {number} of the {len(clip)} frames used; "
                "ActionMesh needs 1 % to 99 % in every frame.",
                hint="Cut the clip to the part in which the subject can be seen, or choose another "
                "box or point in its first frame.",
                frame=number,
                frames=len(clip),
            )
    return clip
