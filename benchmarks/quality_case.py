"""One row of quality.py's table, measured in a process of its own: prints it as JSON.

`python -m benchmarks.quality_case appearance "robot_walk, 1.5 % noise"`: part and name of the case.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np

from appearance.bake import Baked, bake_texture
from appearance.fit import Fit, NotFitted, fit_view
from appearance.score import Score, score_view
from appearance.unwrap import unwrap
from benchmarks.colour_error import colour_error
from benchmarks.quality_row import Figure, Row, peak_rss_mb
from benchmarks.subject import measured
from benchmarks.truth import Truth, generated, load_truth, truth_names
from benchmarks.unlit_picture import GREY, drawn, side_view
from child.score_warnings import least_motion, not_painted
from examples.make_dancing_sprout import CLIP as DEMO_CLIP
from meshes.preview import PANEL_PX
from meshes.sequence import MeshSequence
from meshes.view import View
from pipeline import SubjectChoice
from silhouette.pipeline import SilhouettePipeline
from subject.find import find_subject
from tests.silhouette.measure import (
    LabelledClip,
    ReportLog,
    as_clip,
    load_sample,
    measure,
    media_folder,
    run_one,
)
from tests.silhouette.measure import sample_names as silhouette_names
from tests.subject.real_clips import box_around, load_real, real_names
from video.clip import Clip
from video.frames import read_clip

TEXTURE_PX = 1024
NOISE = {"exact mesh": 0.0, "1.5 % noise": 0.015, "3 % noise": 0.03}
BARS = {0.0: (2.5, 0.90), 0.015: (6.0, 0.85)}
"""The largest angle and the least overlap, by noise. With more, neither they nor colours count."""
WRONG = ("shuffled", "reversed", "frozen", "other subject")
LONG = "1.5 % noise, 31 frames"
SPROUT = "dancing sprout, painted anew"


def case_names(media: Path) -> dict[str, list[str]]:
    """The cases of each part of the table."""
    clips = truth_names(media)
    return {
        "subject": [f"{n}{choice}" for n in real_names(media) for choice in ("", ", with a box")],
        "silhouette": [*silhouette_names(media), *clips],
        "appearance": [f"{n}, {what}" for n in clips for what in (*NOISE, *WRONG)]
        + [f"{n}, {LONG}" for n in clips[-1:]]
        + [SPROUT],
    }


def subject_row(name: str) -> Row:
    """The subject of a real clip, against its true masks."""
    clip, _, choice = name.partition(", ")
    sample = load_real(media_folder(), clip)
    box = SubjectChoice(box=box_around(sample.truth[0])) if choice else None
    mean, worst, confidence, took = measured(sample, box)
    figures = [Figure("IoU", mean), Figure("worst", worst), Figure("confidence", confidence)]
    return Row(figures, {"subject": took}, peak_rss_mb())


def silhouette_row(name: str) -> Row:
    """The CPU pipeline's outlines in mode default, against true masks."""
    if name in truth_names(media_folder()):
        clip = load_truth(media_folder(), name).clip
        sample = LabelledClip(name, clip, clip.frames[..., 3] > 127)
    else:
        sample = load_sample(media_folder(), name)
    row = Row()
    with row.timed("silhouette"):
        meshes, _, _ = run_one(sample, "default")
    found = measure(meshes, sample)
    row.figures += [Figure("IoU", found.iou_mean), Figure("worst", found.iou_worst)]
    return row


def appearance_row(name: str) -> Row:
    """View, score and colours of a truth clip with the meshes that the name tells."""
    if name == SPROUT:
        return _sprout_row()
    clip_name, what = name.split(", ", 1)
    truth = load_truth(media_folder(), clip_name)
    if what in WRONG:
        return _wrong_row(truth, what)
    truth = _longer(truth) if what == LONG else truth
    noise = NOISE.get(what, 0.015)
    meshes = generated(truth.meshes, noise)
    row = Row()
    fit, score = _timed_fit(row, meshes, truth.clip)
    motion = score.motion
    largest, least = BARS.get(noise, (None, None))
    follows = None if motion is None or noise not in BARS else round(least_motion(score), 2)
    row.figures += [
        Figure("angle", view_error_deg(fit.view, truth), at_most=largest),
        Figure("outline", score.outline_mean, at_least=least),
        Figure("worst", score.outline_worst),
        Figure("motion", motion, at_least=follows),
    ]
    if noise in BARS:
        with row.timed("bake"):
            baked = bake(meshes, truth.clip, fit.view)
        row.figures += _colour_figures(truth, baked)
    return row


def _wrong_row(truth: Truth, what: str) -> Row:
    """Meshes that do not belong to the video must be told from those that do."""
    meshes = generated(truth.meshes, 0.015)
    order = np.arange(len(meshes))
    if what == "other subject":
        names = truth_names(media_folder())
        kind = truth.name.partition("_")[0]
        other = next(name for name in names if not name.startswith(kind))
        meshes = generated(load_truth(media_folder(), other).meshes, 0.015)
    elif what == "shuffled":
        order = np.random.default_rng(0).permutation(order)
    else:
        order = order[::-1] if what == "reversed" else order * 0
    meshes = replace(meshes, vertices=np.ascontiguousarray(meshes.vertices[order]))
    row = Row()
    try:
        _, score = _timed_fit(row, meshes, truth.clip)
    except NotFitted:
        row.figures.append(Figure("painted", 0, at_most=0))
        return row
    row.figures += [Figure("outline", score.outline_mean), Figure("worst", score.outline_worst)]
    if what == "other subject":
        row.figures.append(Figure("painted", float(not not_painted(score)), at_most=0))
    else:
        row.figures.append(Figure("motion", score.motion, at_most=round(least_motion(score), 2)))
    return row


def _sprout_row() -> Row:
    """The demo's mesh, its texture and view thrown away: the front shall look as before."""
    clip, given = dancing_sprout()
    bare = MeshSequence(given.vertices, given.faces, given.fps)
    row = Row()
    fit, score = _timed_fit(row, bare, clip)
    with row.timed("bake"):
        baked = bake(bare, clip, fit.view)
    row.figures += [
        Figure("outline", score.outline_mean),
        Figure("worst", score.outline_worst),
        Figure("motion", score.motion),
        Figure("front, difference of 255", front_difference(given, baked.meshes)),
        Figure("texture seen", baked.seen),
        Figure("mirrored", baked.mirrored),
        Figure("filled", baked.filled),
    ]
    return row


def dancing_sprout() -> tuple[Clip, MeshSequence]:
    """The demo's clip with alpha, and its meshes as silhouette makes them."""
    clip, _ = read_clip(DEMO_CLIP, "mov")
    clip = find_subject(clip, None, ReportLog()).clip
    return clip, SilhouettePipeline().animate(clip, "default", 44, ReportLog())


def front_difference(given: MeshSequence, painted: MeshSequence) -> float:
    """Mean absolute difference of what the preview's size shows of the front, mesh pixels only."""
    middle = len(given) // 2
    view = side_view(given, middle, 0, PANEL_PX)
    one, other = (drawn(meshes, middle, view).astype(float) for meshes in (given, painted))
    is_mesh = (one != GREY).any(axis=2) | (other != GREY).any(axis=2)
    return float(np.abs(one - other)[is_mesh].mean())


def _timed_fit(row: Row, meshes: MeshSequence, clip: Clip) -> tuple[Fit, Score]:
    with row.timed("fit"):
        fit = fit_view(meshes, clip, ignore)
    with row.timed("score"):
        score = score_view(meshes, clip, fit.view, ignore)
    return fit, score


def bake(meshes: MeshSequence, clip: Clip, view: View) -> Baked:
    """As a job does it, without limits."""
    flat = unwrap(meshes.vertices[0], meshes.faces, TEXTURE_PX, subprocess.Popen, lambda: None)
    return bake_texture(meshes, clip, view, flat, TEXTURE_PX, ignore)


def _colour_figures(truth: Truth, baked: Baked) -> list[Figure]:
    error = colour_error(truth, baked.meshes)
    return [
        Figure("seen colour of flat", error.seen / error.flat_seen, at_most=0.55),
        Figure("unseen of flat", error.unseen / error.flat_unseen, at_most=0.8),
        Figure("seen error", error.seen),
        Figure("unseen error", error.unseen),
        Figure("texture seen", baked.seen),
        Figure("mirrored", baked.mirrored),
        Figure("filled", baked.filled),
    ]


def view_error_deg(view: View, truth: Truth) -> float:
    """Angle between the directions in which the cameras stand, seen from the subject: mean."""
    middles = (truth.meshes.vertices.min(axis=1) + truth.meshes.vertices.max(axis=1)) / 2
    found, true = (eyes - middles for eyes in (view.eyes, truth.view.eyes))
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(true, axis=1)
    cosines = np.einsum("tc,tc->t", found, true) / lengths
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())


def _longer(truth: Truth) -> Truth:
    """31 frames: forth and back."""
    order = [*range(16), *range(14, -1, -1)]
    view = replace(truth.view, eyes=truth.view.eyes[order])
    meshes = replace(truth.meshes, vertices=truth.meshes.vertices[order], view=view)
    return replace(truth, clip=as_clip(truth.clip.frames[order]), meshes=meshes)


def ignore(done: float) -> None:
    """Nobody looks at the progress."""


ROWS = {"subject": subject_row, "silhouette": silhouette_row, "appearance": appearance_row}


def main(part: str, name: str) -> None:
    """Print one row."""
    cv2.setNumThreads(1)
    print(json.dumps(asdict(ROWS[part](name))))


if __name__ == "__main__":
    main(*sys.argv[1:])
