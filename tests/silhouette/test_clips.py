"""Real clips, with limits for shape, colour, mesh validity, time and memory.

They need TEST_MEDIA; each clip runs alone in its own process on one core, as the benchmark does.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.silhouette import Report, report_alone, sample_names

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("TEST_MEDIA"), reason="TEST_MEDIA is not set"),
]

_MEDIA = Path(os.environ.get("TEST_MEDIA") or "/nowhere")
_NAMES = sample_names(_MEDIA)
_MOST_RSS_MB = 700


def _assert_valid(report: Report, turned: float) -> None:
    assert report.measured.watertight
    assert report.measured.volume > 0
    assert report.measured.degenerate == 0
    assert report.measured.turned <= turned
    assert report.measured.photo <= 35
    assert report.measured.texture_kb <= 512
    assert report.rss_mb <= _MOST_RSS_MB


@pytest.mark.parametrize("name", [name for name in _NAMES if name.endswith(" alpha")])
def test_16_frames_with_alpha(name: str) -> None:
    report = report_alone(name, "default")
    _assert_valid(report, 0.0015)
    assert report.measured.iou_mean >= 0.97
    assert report.measured.iou_worst >= 0.93
    assert report.cpu_s <= 10 * report.slowness


@pytest.mark.parametrize("name", [name for name in _NAMES if name.endswith(" 31")])
def test_31_frames_with_alpha(name: str) -> None:
    report = report_alone(name, "default")
    _assert_valid(report, 0.0015)
    assert report.measured.iou_mean >= 0.97
    assert report.measured.iou_worst >= 0.90
    assert report.cpu_s <= 16 * report.slowness


@pytest.mark.parametrize(
    "name", [name for name in _NAMES if name.split()[-1] in ("white", "green", "shadow")]
)
def test_plain_backgrounds(name: str) -> None:
    report = report_alone(name, "default")
    _assert_valid(report, 0.0015)
    assert report.measured.iou_mean >= 0.95
    assert "low_confidence_segmentation" not in report.warnings
    assert report.cpu_s <= 10 * report.slowness


@pytest.mark.parametrize("name", [name for name in _NAMES if name.endswith("busymove")])
def test_busy_backgrounds(name: str) -> None:
    report = report_alone(name, "default")
    _assert_valid(report, 0.015)
    assert report.measured.iou_mean >= 0.70
    assert "low_confidence_segmentation" in report.warnings
    assert report.cpu_s <= 14 * report.slowness


@pytest.mark.parametrize("name", [name for name in _NAMES if name.endswith(" alpha")])
def test_faster_modes_cost_less_and_still_fit(name: str) -> None:
    default, fast, least = (report_alone(name, m) for m in ("default", "fast", "fast_low_ram"))
    for report in (fast, least):
        _assert_valid(report, 0.0015)
        assert report.measured.iou_mean >= 0.93
    default_s, fast_s, least_s = (r.cpu_s / r.slowness for r in (default, fast, least))
    assert fast_s < 0.8 * default_s
    assert least_s < fast_s
