"""Dense optical flow between two pictures: dense inverse search (DIS, Kroeger et al. 2016).

The only place that calls it, because it crashes on small pictures. Used by subject/, silhouette/.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from video.fields import Field
from video.sizes import FLOW_MIN_SIDE

Grey = NDArray[np.uint8]


def optical_flow(source: Grey, target: Grey) -> Field:
    """Where each pixel of `source` moves to in `target`: displacements `(H, W, 2)`."""
    return dense_flow(_coarse_method(), source, target)


def dense_flow(method: Any, source: Grey, target: Grey) -> Field:
    """The same by another method. Raises ValueError for sizes at which it would crash."""
    if min(source.shape) < FLOW_MIN_SIDE or source.shape != target.shape:
        raise ValueError(f"no flow between {source.shape} and {target.shape} pixels")
    return np.asarray(method.calc(source, target, None))


def fast_method() -> Any:
    """OpenCV's preset, refined: for masks."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)


@cache
def _coarse_method() -> Any:
    """Made once, for one thread: new buffers cost as much CPU time as the flow itself."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(2)  # a quarter of the size and no refinement take a quarter
    dis.setVariationalRefinementIterations(0)  # of the time; nodes lie nine pixels apart
    return dis
