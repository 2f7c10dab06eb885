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


def seconds_of(clip: Clip) -> tuple[float, float] | None:
    """The first and the last second of the frames used; None where frames have no times."""
    source = clip.source
    if source.fps is None:
        return None
    return source.used[0] / source.fps, source.used[-1] / source.fps


def is_longer(clip: Clip) -> bool:
    """True if half as many frames again lie after the frames used, in a video."""
    last = clip.source.used[-1] + 1
    return clip.source.fps is not None and clip.source.frames - last > 0.5 * last


def other_window(task: Task, clip: Clip, tick: Callable[[], None]) -> float | None:
    """When the part with the most motion begins; None if it is the part that `clip` is from."""
    span = seconds_of(clip)
    if task.container == "zip" or span is None or not is_longer(clip):
        return None
    start = find_motion(task.folder / "input", task.container, span[1] - span[0], tick)
    log.info("no subject was found in %.1f s to %.1f s; motion begins at %s", *span, start)
    return start if start is not None and start - span[0] > _SAME_WINDOW_S else None


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
    begin, end = seconds_of(clip) or (0.0, 0.0)
    return f"{begin:.1f} s to {end:.1f} s"
