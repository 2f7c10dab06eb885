"""Real clips, with limits for shape, colour, mesh validity and memory.

They need TEST_MEDIA; each clip runs alone in its own process on one core. `python -m
benchmarks.silhouette` measures their time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from pipeline import Mode
from tests.silhouette.measure import Report, report_alone, sample_names

pytestmark = pytest.mark.skipif(not os.environ.get("TEST_MEDIA"), reason="TEST_MEDIA is not set")

_QUICK = ("kangaroo alpha", "kangaroo white", "kangaroo busymove")
_MOST_RSS_MB = 700


def _clips(*endings: str) -> list[ParameterSet]:
    """The clips whose names end like this; `make test` uses one of each kind."""
    names = sample_names(Path(os.environ.get("TEST_MEDIA") or "/nowhere"))
    return [
        pytest.param(name, marks=[] if name in _QUICK else pytest.mark.slow)
        for name in names
        if name.endswith(endings)
    ]


def _assert_valid(report: Report, turned: float, most_rss_mb: int = _MOST_RSS_MB) -> None:
    assert report.measured.watertight
    assert report.measured.volume > 0
    assert report.measured.degenerate == 0
    assert report.measured.turned <= turned
    assert report.measured.photo <= 35
    assert report.measured.texture_kb <= 512
    assert report.rss_mb <= most_rss_mb


@pytest.mark.parametrize("name", _clips(" alpha"))
def test_16_frames_with_alpha(name: str) -> None:
    report = report_alone(name, "default")
    _assert_valid(report, 0.0015)
    assert report.measured.iou_mean >= 0.97
    assert report.measured.iou_worst >= 0.93


@pytest.mark.parametrize("name", _clips(" 31"))
def test_31_frames_with_alpha(name: str) -> None:
    report = report_alone(name, "default")
    _assert_valid(report, 0.0015)
    assert report.measured.iou_mean >= 0.97
    assert report.measured.iou_worst >= 0.90


@pytest.mark.parametrize("name", _clips(" white", " green", " shadow"))
def test_plain_backgrounds(name: str) -> None:
    report = report_alone(name, "default")
    _assert_valid(report, 0.0015)
    assert report.measured.iou_mean >= 0.95
    assert "low_confidence_segmentation" not in report.warnings


@pytest.mark.parametrize("name", _clips(" busymove"))
def test_busy_backgrounds(name: str) -> None:
    report = report_alone(name, "default")
    _assert_valid(report, 0.015, most_rss_mb=900)  # the net's
    assert report.measured.iou_mean >= 0.90
    assert "low_confidence_segmentation" not in report.warnings


@pytest.mark.parametrize("name", _clips(" alpha"))
@pytest.mark.parametrize("mode", ["fast", "fast_low_ram"])
def test_faster_modes_still_fit(name: str, mode: Mode) -> None:
    report = report_alone(name, mode)
    _assert_valid(report, 0.0015)
    assert report.measured.iou_mean >= 0.93
