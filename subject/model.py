"""Runs u2netp (Qin et al. 2020), a small net for salient objects.

A picture goes in; how likely each pixel is part of the most salient thing comes out.

It knows nothing of motion and of time: subject/two_looks.py asks it about many frames and parts of
frames. The file comes from model_file.py.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from subject.model_file import model_path
from video.fields import Field

log = logging.getLogger(__name__)

INPUT_PX = 320
"""Side of the square that the net was trained on, and that its file takes."""
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_MOST_THREADS = 2
"""A look takes .30 s on one core and .19 s on two; more threads would be taken from other jobs."""


@dataclass(frozen=True)
class Model:
    """A loaded net. `session` is an onnxruntime.InferenceSession."""

    session: Any

    def look(self, picture: NDArray[np.uint8]) -> Field:
        """Probabilities `(INPUT_PX, INPUT_PX)` for an RGB `(h, w, 3)` of any size, stretched."""
        shrinks = max(picture.shape[:2]) > INPUT_PX
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        square = cv2.resize(picture, (INPUT_PX, INPUT_PX), interpolation=how).astype(np.float32)
        square /= max(float(square.max()), 1e-6)  # as in its training
        values = ((square - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None]
        feed = {self.session.get_inputs()[0].name: np.ascontiguousarray(values)}
        first_output = self.session.get_outputs()[0].name  # the others are coarser
        return np.asarray(self.session.run([first_output], feed)[0][0, 0], np.float32)


def load_model() -> Model | None:
    """The net; None where its file or onnxruntime cannot be had."""
    path = model_path()
    if path is None:
        log.warning("the saliency net's file is missing")
        return None
    try:
        return _loaded(path)
    except ImportError:
        log.warning("onnxruntime is not installed")
        return None


def load_library() -> None:
    """Read onnxruntime from disk, so that the first job need not."""
    with suppress(ImportError):  # load_model says so
        import onnxruntime  # noqa: F401


def _loaded(path: Path) -> Model:
    """Each time anew, since the net keeps 200 MB for its next look: they go with it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # costs CPU time
    providers = ["CPUExecutionProvider"]
    return Model(onnxruntime.InferenceSession(str(path), options, providers=providers))
