"""From meshes and the frames they were made of: the video's camera, how well both fit, colours.

Frames have alpha: 255 is the subject. Knows no job; child/appearance.py calls it after the
checkpoint.
"""

from collections.abc import Callable

OnProgress = Callable[[float], None]
"""Called with the part that is done, 0 to 1, at least ten times a second; may raise Cancelled."""
