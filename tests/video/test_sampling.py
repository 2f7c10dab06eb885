"""Properties of sampling, for clips of any length and rate."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import VideoTooShort
from video.sampling import (
    SLOWEST_FPS,
    FrameRequest,
    Sampling,
    choose_frames,
    frames_needed,
    is_constant,
    source_rate,
)

RATES = st.one_of(
    st.sampled_from([23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0, 120.0, 240.0, 1000.0]),
    st.floats(1 / 3600, 1000, allow_nan=False),
)
COUNTS = st.integers(16, 1500)
LIMITS = st.integers(16, 121)
STEPS = st.sampled_from([1, 15])


def constant(count: int, rate: float, begin: float = 0.0) -> list[float]:
    return [begin + k / rate for k in range(count)]


def codes(found: Sampling) -> list[str]:
    return [warning.code for warning in found.warnings]


def largest(available: int, max_frames: int, step: int) -> int:
    """The largest of 16, 16 + step, ... that fits."""
    return max(n for n in range(16, 122, step) if n <= min(available, max_frames))


@given(COUNTS, RATES, LIMITS, STEPS)
def test_a_constant_rate_clip_is_taken_in_one_integer_stride(
    count: int, rate: float, max_frames: int, step: int
) -> None:
    request = FrameRequest(max_frames=max_frames, step=step)
    found = choose_frames(constant(count, rate), count, request)
    wanted = largest(count, max_frames, step)
    strides = {later - earlier for earlier, later in pairwise(found.used)}
    assert len(found.used) == wanted and found.used[0] == 0 and found.used[-1] < count
    assert len(strides) == 1
    stride = strides.pop()
    known = source_rate(constant(min(count, 500), rate)) or rate
    assert 1 <= stride <= max(1, (count - 1) // (wanted - 1))
    assert stride == 1 or known / stride >= SLOWEST_FPS - 1e-3
    # the largest stride that both rules allow
    assert (
        stride == (count - 1) // (wanted - 1) or known / (stride + 1) < SLOWEST_FPS or stride == 1
    )


@given(COUNTS, RATES, LIMITS, STEPS, st.one_of(st.none(), st.floats(1, 60)))
def test_frames_ascend_within_the_clip_at_a_watchable_rate(
    count: int, rate: float, max_frames: int, step: int, fps: float | None
) -> None:
    request = FrameRequest(fps=fps, max_frames=max_frames, step=step)
    try:
        found = choose_frames(constant(count, rate), count, request)
    except VideoTooShort as error:
        assert fps is not None and int(str(error.facts["frames"])) < 16
        return
    most = largest(count, max_frames, step)
    assert len(found.used) == most or (fps is not None and (len(found.used) - 16) % step == 0)
    assert len(found.used) <= most
    assert all(earlier < later for earlier, later in pairwise(found.used))
    assert found.used[0] == 0 and found.used[-1] < count
    assert 1 <= found.fps <= 120


@given(
    st.lists(st.floats(0, 3), min_size=15, max_size=300),
    LIMITS,
    STEPS,
    st.one_of(st.none(), st.floats(1, 60)),
)
def test_a_variable_rate_clip_gives_distinct_frames_in_order(
    gaps: list[float], max_frames: int, step: int, fps: float | None
) -> None:
    times = [0.0, *accumulate(gaps)]
    request = FrameRequest(fps=fps, max_frames=max_frames, step=step)
    try:
        found = choose_frames(times, len(times), request)
    except VideoTooShort as error:
        assert fps is not None and int(str(error.facts["frames"])) < 16
        return
    assert (len(found.used) - 16) % step == 0
    assert len(found.used) <= largest(len(times), max_frames, step)
    assert all(earlier < later for earlier, later in pairwise(found.used))
    assert 0 <= found.used[0] and found.used[-1] < len(times)
    assert 1 <= found.fps <= 120


@given(
    st.lists(st.floats(0.001, 0.5), min_size=40, max_size=400),
    LIMITS,
    STEPS,
    st.one_of(st.none(), st.floats(1, 60)),
)
def test_frames_after_those_needed_change_nothing(
    gaps: list[float], max_frames: int, step: int, fps: float | None
) -> None:
    times = [0.0, *accumulate(gaps)]
    request = FrameRequest(fps=fps, max_frames=max_frames, step=step)
    seen = frames_needed(times, request)
    try:
        whole = choose_frames(times, len(times), request)
    except VideoTooShort:
        return
    assert whole == choose_frames(times[:seen], len(times), request)
    assert whole.used[-1] < seen


@pytest.mark.parametrize(
    ("count", "rate", "used_to", "fps", "has_tail"),
    [
        (16, 24, 15, 24, False),  # all there is
        (17, 24, 15, 24, False),  # a spare frame
        (18, 24, 15, 24, True),
        (30, 24, 15, 24, True),  # 17 to 30 frames would cost as much as 31
        (31, 24, 30, 24, False),
        (34, 24, 30, 24, False),  # less than a tenth is spare
        (35, 24, 30, 24, True),
        (48, 24, 30, 24, True),
        (61, 24, 60, 12, False),
        (300, 24, 90, 8, True),  # stride 3: a fourth would go under 8 a second
        (300, 30, 90, 10, True),
        (300, 23.976, 60, 11.988, True),
        (300, 60, 210, 8.5714, True),
        (40, 5, 30, 5, True),  # slower than 8 from the start: as it is
    ],
)
def test_typical_camera_clips(
    count: int, rate: float, used_to: int, fps: float, has_tail: bool
) -> None:
    found = choose_frames(constant(count, rate), count, FrameRequest(step=15))
    assert found.used[-1] == used_to
    assert found.fps == pytest.approx(fps, abs=0.01)
    assert ("unused_tail" in codes(found)) == has_tail


@pytest.mark.parametrize(
    ("count", "max_frames", "step", "used", "stride"),
    [
        (100, 30, 15, 16, 3),
        (100, 30, 1, 30, 3),
        (100, 31, 15, 31, 3),
        (100, 60, 15, 46, 2),
        (100, 121, 15, 91, 1),
        (100, 121, 1, 100, 1),
        (121, 121, 15, 121, 1),
        (500, 121, 15, 121, 3),
        (500, 121, 1, 121, 3),
        (20, 121, 15, 16, 1),
        (20, 121, 1, 20, 1),
    ],
)
def test_a_job_has_as_many_frames_as_its_pipeline_takes(
    count: int, max_frames: int, step: int, used: int, stride: int
) -> None:
    request = FrameRequest(max_frames=max_frames, step=step)
    found = choose_frames(constant(count, 30), count, request)
    assert found.used == tuple(range(0, used * stride, stride)) and found.fps == 30 / stride


def test_the_rate_is_told_by_as_many_frames_for_16_as_for_31() -> None:
    needed = [frames_needed(constant(900, 30), FrameRequest(max_frames=n)) for n in (16, 31, 121)]
    assert needed == [114, 114, 452]


@pytest.mark.parametrize(
    ("count", "max_frames", "step", "helps"),
    [
        (35, 31, 15, False),  # 46 would not fit
        (150, 31, 15, True),
        (150, 31, 1, True),
        (40, 121, 15, False),  # 31 used, 9 more are no window
        (500, 121, 15, False),  # all that is allowed
    ],
)
def test_the_warning_of_an_unused_tail_names_max_frames_where_more_would_help(
    count: int, max_frames: int, step: int, helps: bool
) -> None:
    request = FrameRequest(max_frames=max_frames, step=step)
    (warning,) = choose_frames(constant(count, 24), count, request).warnings
    assert warning.code == "unused_tail" and "`fps`" in warning.message
    assert ("`max_frames`" in warning.message) == helps


def test_fps_takes_the_frames_nearest_to_each_step() -> None:
    found = choose_frames(constant(300, 25), 300, FrameRequest(fps=10))
    assert found.used[:7] == (0, 2, 5, 7, 10, 12, 15) and found.fps == 10


def test_an_fps_above_the_clips_own_takes_every_frame_with_a_warning() -> None:
    found = choose_frames(constant(40, 24), 40, FrameRequest(fps=60))
    assert found.used == tuple(range(31)) and found.fps == 24
    assert "fps_lowered" in codes(found)


def test_an_fps_that_leaves_too_few_frames_is_refused_and_the_hint_gives_a_working_one() -> None:
    with pytest.raises(VideoTooShort) as caught:
        choose_frames(constant(48, 24), 48, FrameRequest(fps=4))
    assert caught.value.facts == {"frames": 8, "min_frames": 16}
    assert "fps=8" in caught.value.hint
    assert len(choose_frames(constant(48, 24), 48, FrameRequest(fps=8)).used) == 16


def test_15_frames_are_too_few_and_the_error_counts_them() -> None:
    with pytest.raises(VideoTooShort, match="15 frames; at least 16"):
        choose_frames(constant(15, 24), 15)


@pytest.mark.parametrize("rate", [1 / 3600, 0.4, 200, 1000])
def test_unwatchable_rates_play_at_12(rate: float) -> None:
    found = choose_frames(constant(20, rate), 20)
    assert found.fps == 12 and "playback_rate" in codes(found)


def test_frames_without_times_play_at_12_or_at_fps() -> None:
    assert choose_frames(None, 31).fps == 12
    assert choose_frames(None, 31, FrameRequest(fps=24)).fps == 24
    assert choose_frames(None, 100).used == tuple(range(0, 91, 3))
    stuck = choose_frames([0.0] * 20, 20)
    assert stuck.fps == 12 and "playback_rate" in codes(stuck)


def test_a_pause_is_not_filled_with_copies_of_one_frame() -> None:
    times = [*constant(30, 30), 11.0]
    found = choose_frames(times, 31)
    assert found.used == tuple(range(31)) and found.fps == pytest.approx(27.5, abs=0.1)


@pytest.mark.parametrize("rate", [24000 / 1001, 25, 30000 / 1001, 30, 60])
def test_times_rounded_to_milliseconds_give_the_rate_that_was_meant(rate: float) -> None:
    times = [round(k / rate, 3) for k in range(60)]
    assert source_rate(times) == rate and is_constant(times)
