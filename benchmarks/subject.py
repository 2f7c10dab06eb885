"""Measures how well the subject is found in real clips: `python -m benchmarks.subject [word ...]`.

Prints a Markdown table for the clips with true masks in $TEST_MEDIA/davis, without a choice and
with a box around the first true mask. Words choose clips by part of their names.
"""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound
from pipeline import SubjectChoice
from subject.find import SURE, find_subject
from tests.silhouette.measure import LabelledClip, ReportLog, media_folder
from tests.subject.real_clips import box_around, load_real, overlaps, real_names

HEADER = """\
| clip | IoU mean | IoU worst | confidence | CPU s | with a box | worst | confidence | CPU s |
|---|---|---|---|---|---|---|---|---|"""

Row = tuple[float, float, float, float]
"""Mean and worst IoU, confidence, CPU seconds."""


def measured(sample: LabelledClip, choice: SubjectChoice | None) -> Row:
    """One clip; zeros where no subject is found."""
    began = time.process_time()
    try:
        found = find_subject(sample.clip, choice, ReportLog())
    except NoSubjectFound:
        return 0.0, 0.0, 0.0, time.process_time() - began
    took = time.process_time() - began
    iou = overlaps(found.clip, sample.truth)
    return float(iou.mean()), float(iou.min()), found.confidence, took


def main(words: list[str]) -> None:
    """Print the table and its summary."""
    cv2.setNumThreads(1)
    print(HEADER)
    alone, boxed = [], []
    for name in real_names(media_folder()):
        if all(word in name for word in words):
            sample = load_real(media_folder(), name)
            alone.append(measured(sample, None))
            boxed.append(measured(sample, SubjectChoice(box=box_around(sample.truth[0]))))
            cells = [*alone[-1], *boxed[-1]]
            print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)
    for what, rows in (("Without a choice", alone), ("With a box", boxed)):
        print(f"\n{what}: {_summary(np.array(rows))}")


def _summary(rows: NDArray[np.float64]) -> str:
    means, sure = rows[:, 0], rows[:, 2] >= SURE
    parts = [f"mean IoU {means.mean():.3f}, median {np.median(means):.3f}"]
    for what, chosen in ((f"confidence from {SURE}", sure), ("below", ~sure)):
        if chosen.any():
            parts.append(f"{what}: {chosen.sum()} clips, mean {means[chosen].mean():.3f}")
    return "; ".join(parts) + "."


if __name__ == "__main__":
    main(sys.argv[1:])
