"""Camera and score on clips whose cameras are known, from TEST_MEDIA.

All clips and more noise: benchmarks/quality.py.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from appearance.fit import fit_view
from appearance.score import score_view
from benchmarks.truth import generated, load_truth, truth_names
from tests.appearance.drawn_clip import degrees_apart

MEDIA = Path(os.environ.get("TEST_MEDIA", "/nowhere"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MEDIA / "truth").is_dir(), reason="TEST_MEDIA holds no truth clips"),
]


def _nothing(_: float) -> None:
    pass


@pytest.mark.parametrize(
    ("noise", "most_degrees", "least_overlap"), [(0.0, 2.5, 0.9), (0.015, 6.0, 0.85)]
)
def test_the_true_camera_is_found(noise: float, most_degrees: float, least_overlap: float) -> None:
    truth = load_truth(MEDIA, truth_names(MEDIA)[0])
    meshes = generated(truth.bare, noise)
    fit = fit_view(meshes, truth.clip, _nothing)
    assert degrees_apart(replace(fit.view, centre=truth.view.centre), truth.view) < most_degrees
    assert not fit.is_ambiguous
    score = score_view(meshes, truth.clip, fit.view, _nothing)
    assert score.outline_mean > least_overlap
    assert score.motion is None or score.motion > 0.45
    backwards = replace(meshes, vertices=meshes.vertices[::-1].copy())
    other = score_view(backwards, truth.clip, fit.view, _nothing)
    assert other.motion is None or other.motion < 0.2
