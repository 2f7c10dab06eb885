"""Other seconds of a video, for a job that finds no subject in the first. Used by recipe.py."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from errors import NoSubjectFound
from job.task import Task
from video.clip import Clip
from video.motion_scan import find_motion

log = logging.getLogger(__name__)

_SAME_WINDOW_S = 0.5
_HINT = "Send `start`, the second at which the subject is in the picture. "


def is_longer(clip: Clip) -> bool:
    """True if half as many frames again lie after the frames used, in a video."""
    last = clip.source.used[-1] + 1
    return clip.seconds is not None and clip.source.frames - last > 0.5 * last


def other_window(task: Task, clip: Clip, tick: Callable[[], None]) -> float | None:
    """When the part with the most motion begins; None if it is the part that `clip` is from."""
    if task.container == "zip" or clip.seconds is None or not is_longer(clip):
        return None
    begin, end = clip.seconds[0], clip.seconds[-1]
    start = find_motion(task.folder / "input", task.container, end - begin, tick)
    log.info("no subject was found in %.1f s to %.1f s; motion begins at %s", begin, end, start)
    return start if start is not None and start - begin > _SAME_WINDOW_S else None


def used_instead(first: Clip, other: Clip) -> str:
    """The text of the warning `window_only`."""
    return (
        f"Nothing was found in {_in_words(first)}, so {_in_words(other)} are used; "
        "send `start` to choose."
    )


def with_windows(error: NoSubjectFound, looked_at: Sequence[Clip]) -> NoSubjectFound:
    """The same error; where the video is longer than what was looked at, it names the seconds."""
    if not is_longer(looked_at[0]):
        return error
    where = " and ".join(_in_words(clip) for clip in looked_at)
    message = f"{error.message} Only {where} of the clip were looked at."
    return NoSubjectFound(message, hint=_HINT + error.hint, **error.facts)


def _in_words(clip: Clip) -> str:
    seconds = clip.seconds or (0.0,)
    return f"{seconds[0]:.1f} s to {seconds[-1]:.1f} s"
