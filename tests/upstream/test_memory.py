"""Jobs on cards of less and less memory: the same meshes, and what an out-of-memory changes.

The device is the CPU: weights are moved between two places in its memory. Errors are torch's own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from actionmesh_wrapper import ActionMeshPipeline
from errors import GpuError, GpuOutOfMemory
from gpu_memory import PARTS, WAITING, Placement
from pipeline import MODES, Mode
from settings import Settings
from tests.upstream import tiny
from tests.upstream.conftest import addresses, failing, on_card
from tests.upstream.recording_reporter import RecordingReporter
from tests.upstream.test_driver import call_stock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]

CARDS: dict[Placement, float] = {"resident": 24.0, "parked": 12.0, "one_part": 11.5}
"""A size of free memory, in GB, for each placement of `default` and `fast`."""


def out_of_memory() -> Exception:
    import torch

    error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
    return error


def placement_of(pipeline: ActionMeshPipeline) -> Placement | None:
    assert pipeline.engine is not None
    return pipeline.engine.placement


@pytest.mark.parametrize("count", [16, 31])
@pytest.mark.parametrize("placement", ["parked", "one_part"])  # test_driver.py has the other
def test_every_placement_gives_upstreams_meshes_in_every_mode(
    stock: Any, resident: ActionMeshPipeline, placement: Placement, count: int
) -> None:
    clip = tiny.clip_of(count)
    card = on_card(resident, CARDS[placement])
    assert placement_of(card) == placement
    for mode in MODES:
        report = RecordingReporter()
        made = card.animate(clip, mode, 7, report)
        assert np.array_equal(made.vertices, call_stock(stock, mode, clip, seed=7))
        assert report.warnings == []


@pytest.mark.parametrize("mode", ["default", "fast"])
def test_out_of_memory_is_tried_again_one_placement_lower_and_remembered(
    resident: ActionMeshPipeline, mode: Mode
) -> None:
    clip = tiny.clip_of(16)
    card = on_card(resident, math.inf)
    wanted = card.animate(clip, mode, 8, RecordingReporter())
    for lower in ("parked", "one_part"):
        report = RecordingReporter()
        hook = failing(card, 1, out_of_memory())
        try:
            made = card.animate(clip, mode, 8, report)
        finally:
            hook.remove()
        assert report.warnings == []  # the mode is the one that was asked for
        assert placement_of(card) == lower
        assert np.array_equal(made.vertices, wanted.vertices)
    card.animate(clip, mode, 8, RecordingReporter())
    assert placement_of(card) == "one_part"
    assert card.engine is not None and not card.engine.pipe.scheduler.split_cfg_batch


def test_the_last_try_is_in_low_ram_and_so_are_later_jobs_of_that_mode(
    resident: ActionMeshPipeline,
) -> None:
    clip = tiny.clip_of(16)
    card = on_card(resident, CARDS["one_part"])
    wanted = card.animate(clip, "fast_low_ram", 8, RecordingReporter())
    hook = failing(card, 1, out_of_memory())
    try:
        for _ in range(2):  # the hook raises in the first job only
            report = RecordingReporter()
            made = card.animate(clip, "fast", 8, report)
            assert report.warnings == ["low_ram_retry"]
            assert np.array_equal(made.vertices, wanted.vertices)
    finally:
        hook.remove()
    report = RecordingReporter()
    card.animate(clip, "default", 8, report)  # which has not run out of memory
    assert report.warnings == []


@pytest.mark.parametrize("mode", MODES)
def test_out_of_memory_in_every_try_raises_and_keeps_no_tensors(
    resident: ActionMeshPipeline, mode: Mode
) -> None:
    card = on_card(resident, math.inf)
    hook = failing(card, 10, out_of_memory())
    try:
        with pytest.raises(GpuOutOfMemory, match="about 8.5 GB") as caught:
            card.animate(tiny.clip_of(16), mode, 8, RecordingReporter())
    finally:
        hook.remove()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    # a job that no plan could help lowers no later job
    card.animate(tiny.clip_of(16), mode, 8, RecordingReporter())
    assert placement_of(card) == "resident"


def test_low_ram_jobs_move_no_weights_where_all_fit(resident: ActionMeshPipeline) -> None:
    card = on_card(resident, CARDS["resident"])
    engine = card.engine
    assert engine is not None
    used: list[int] = []
    layer = engine.pipe.temporal_3D_denoiser.proj_in
    hook = layer.register_forward_pre_hook(lambda *_: used.append(layer.weight.data_ptr()))
    held = layer.weight.data_ptr()
    try:
        for mode in ("fast_low_ram", "fast", "fast_low_ram"):
            card.animate(tiny.clip_of(16), mode, 3, RecordingReporter())
            assert placement_of(card) == "resident"
    finally:
        hook.remove()
    assert set(used) == {held}


def test_waiting_weights_have_one_copy_and_their_stage_another(
    resident: ActionMeshPipeline,
) -> None:
    card = on_card(resident, CARDS["resident"])
    loaded = [addresses(card, part) for part in PARTS]
    engine = card.engine
    assert engine is not None
    engine.place("parked")
    assert [addresses(card, part) for part in PARTS] == loaded  # which is host memory already
    for part in PARTS:
        held = addresses(card, part)
        with engine.on_device(part):
            inside = addresses(card, part)
            assert bool(set(held) & set(inside)) == (part not in WAITING["parked"])
        assert addresses(card, part) == held


@pytest.fixture
def one_move_fails(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The 40th tensor that is moved finds no memory; gives the number of moves until then."""
    import torch

    move, left = torch.Tensor.to, [40]

    def runs_out(self: Any, *args: Any, **options: Any) -> Any:
        if args == ("cpu",) and not options:  # as the engine calls it
            left[0] -= 1
            if left[0] == 0:
                raise out_of_memory()
            return self.clone()  # another device has other memory
        return move(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", runs_out)
    return left


def test_weights_that_do_not_fit_stay_where_they_were(
    resident: ActionMeshPipeline, request: pytest.FixtureRequest
) -> None:
    import torch

    card = on_card(resident, CARDS["one_part"])
    held = [addresses(card, part) for part in PARTS]
    request.getfixturevalue("one_move_fails")
    assert card.engine is not None
    with pytest.raises(torch.OutOfMemoryError):
        card.engine.place("resident")
    assert [addresses(card, part) for part in PARTS] == held


def test_a_job_whose_weights_do_not_fit_runs_with_more_of_them_on_the_host(
    resident: ActionMeshPipeline, request: pytest.FixtureRequest
) -> None:
    clip = tiny.clip_of(16)
    wanted = on_card(resident, math.inf).animate(clip, "fast", 3, RecordingReporter())
    card = on_card(resident, CARDS["one_part"])
    card.free_gb = math.inf  # the first job's plan is to move them all
    left = request.getfixturevalue("one_move_fails")
    report = RecordingReporter()
    made = card.animate(clip, "fast", 3, report)
    assert left[0] < 0
    assert report.warnings == []
    assert placement_of(card) == "parked"
    assert np.array_equal(made.vertices, wanted.vertices)


def test_weights_that_do_not_fit_when_they_are_loaded_wait_on_the_host(
    cache: Any, request: pytest.FixtureRequest
) -> None:
    class FailsAfterReading(RecordingReporter):
        def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
            if stage == "loading" and step == steps:
                request.getfixturevalue("one_move_fails")

    card = ActionMeshPipeline(Settings(), presets=tiny.PRESETS, device="cpu")
    card.load(FailsAfterReading())
    assert request.getfixturevalue("one_move_fails")[0] < 0
    assert placement_of(card) == "one_part"


def test_without_page_locked_memory_weights_wait_in_ordinary_memory(
    resident: ActionMeshPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("page-locked memory is here")
    engine = on_card(resident, CARDS["resident"]).engine
    assert engine is not None
    engine._pins = True
    engine.place("one_part")
    assert engine.placement == "one_part"
    assert sum("not page-locked" in record.message for record in caplog.records) == 1


def test_out_of_memory_that_hides_a_lost_device_ends_the_process(
    resident: ActionMeshPipeline,
) -> None:
    """The same text, but the device answers no more: here because there is none."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    card = on_card(resident, math.inf)
    hook = failing(card, 1, torch.AcceleratorError("CUDA error: out of memory"))
    card.device = "cuda:0"
    try:
        with pytest.raises(GpuError) as caught:
            card.animate(tiny.clip_of(16), "fast", 8, RecordingReporter())
    finally:
        hook.remove()
    assert caught.value.facts["sticky"]
