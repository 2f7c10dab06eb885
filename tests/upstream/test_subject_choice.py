"""SUBJECT and the client's choice, with upstream's real code and tiny random weights on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actionmesh_wrapper import ActionMeshPipeline
from errors import Cancelled, NoSubjectFound
from pipeline import SubjectChoice
from settings import Settings, SubjectWay
from subject.find import find_subject
from tests.upstream import tiny
from tests.upstream.conftest import addresses, on_card
from tests.upstream.recording_reporter import RecordingReporter
from tests.upstream.test_driver import call_stock
from upstream.sam2 import follow
from video.clip import Clip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]

BOX = SubjectChoice(box=(0.2, 0.25, 0.8, 0.75))


def asked_for(resident: ActionMeshPipeline, way: SubjectWay) -> ActionMeshPipeline:
    """The loaded pipeline of a server with SUBJECT=`way`."""
    made = on_card(resident, 24.0)
    made.settings, made.sam2_folder = Settings(subject=way), resident.sam2_folder
    return made


def by_sam2(pipeline: ActionMeshPipeline, clip: Clip, choice: SubjectChoice) -> NDArray[np.uint8]:
    assert pipeline.sam2_folder is not None
    return follow(pipeline.sam2_folder, clip.frames[..., :3], choice, "cpu", lambda _: None)


def on_the_cpu(clip: Clip, choice: SubjectChoice | None) -> NDArray[np.uint8]:
    return find_subject(clip, choice, RecordingReporter()).clip.frames[..., 3]


@pytest.fixture
def sam2_fails(request: pytest.FixtureRequest) -> Iterator[None]:
    """The real model runs out of memory in its second frame."""
    import torch

    calls: list[str] = []

    def fail(module: Any, _given: Any) -> None:
        if type(module).__name__ == "Sam2PatchEmbeddings":
            calls.append("frame")
            if len(calls) == 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(fail)
    yield
    hook.remove()
    assert len(calls) == 2


def test_without_a_choice_rmbg_works_as_upstreams(resident: ActionMeshPipeline, stock: Any) -> None:
    card, clip = asked_for(resident, "rmbg"), tiny.clip_of(16, alpha=False)
    report = RecordingReporter()
    assert asked_for(resident, "auto").find_subject(clip, None, report) is clip
    assert card.find_subject(clip, None, report) is clip
    made = card.animate(clip, "fast_low_ram", 7, report)
    assert np.array_equal(made.vertices, call_stock(stock, "fast_low_ram", clip, seed=7))
    assert report.warnings == []
    assert card.engine is not None
    remover = card.engine.pipe.background_removal
    (shown,) = report.subjects
    for frame, seen in zip(clip.frames, shown.frames, strict=True):
        assert np.array_equal(seen, remover.forward(frame))


@pytest.mark.parametrize("way", ["auto", "model", "rmbg", "sam2"])
def test_alpha_that_was_sent_is_used_unless_a_box_chooses(
    resident: ActionMeshPipeline, way: SubjectWay
) -> None:
    card, clip = asked_for(resident, way), tiny.clip_of(16)
    assert card.find_subject(clip, None, RecordingReporter()) is clip
    chosen = card.find_subject(clip, BOX, RecordingReporter()).frames[..., 3]
    wanted = on_the_cpu(clip, BOX) if way == "model" else by_sam2(card, clip, BOX)
    assert np.array_equal(chosen, wanted)


def test_a_job_with_a_box_moves_what_sam2_followed(
    resident: ActionMeshPipeline, stock: Any
) -> None:
    card, clip = asked_for(resident, "auto"), tiny.clip_of(16, alpha=False)
    report = RecordingReporter()
    chosen = card.find_subject(clip, BOX, report)
    made = card.animate(chosen, "fast_low_ram", 7, report)
    wanted = clip.with_alpha(by_sam2(card, clip, BOX))
    (shown,) = report.subjects
    assert np.array_equal(shown.frames, wanted.frames)
    assert np.array_equal(made.vertices, call_stock(stock, "fast_low_ram", wanted, seed=7))
    assert report.warnings == []
    assert ("background", 16, 16) in report.steps


def test_sam2_without_a_choice_follows_the_first_answer_of_the_cpu(
    resident: ActionMeshPipeline,
) -> None:
    card, clip = asked_for(resident, "sam2"), tiny.clip_of(16, alpha=False)
    found = card.find_subject(clip, None, RecordingReporter()).frames[..., 3]
    rows, columns = np.nonzero(on_the_cpu(clip, None)[0] > 127)
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    left, top, right, bottom = (float(edge) / 96 for edge in edges)
    box = SubjectChoice(box=(left, top, right, bottom))
    assert np.array_equal(found, by_sam2(card, clip, box))


@pytest.mark.parametrize("choice", [None, BOX], ids=["no choice", "box"])
def test_model_finds_the_subject_on_the_cpu(
    resident: ActionMeshPipeline, choice: SubjectChoice | None
) -> None:
    card, clip = asked_for(resident, "model"), tiny.clip_of(16, alpha=False)
    found = card.find_subject(clip, choice, RecordingReporter())
    assert np.array_equal(found.frames[..., 3], on_the_cpu(clip, choice))


@pytest.mark.parametrize("way", ["auto", "rmbg", "sam2"])
def test_without_sam2s_weights_the_cpu_follows_the_choice_and_the_job_says_so(
    resident: ActionMeshPipeline, way: SubjectWay
) -> None:
    card, clip = asked_for(resident, way), tiny.clip_of(16, alpha=False)
    card.sam2_folder = None
    report = RecordingReporter()
    found = card.find_subject(clip, BOX, report)
    assert np.array_equal(found.frames[..., 3], on_the_cpu(clip, BOX))
    assert report.warnings[0] == "sam2_unavailable"


@pytest.mark.usefixtures("sam2_fails")
def test_out_of_memory_leaves_the_choice_to_the_cpu_and_the_weights_where_they_are(
    resident: ActionMeshPipeline,
) -> None:
    card, clip = asked_for(resident, "auto"), tiny.clip_of(16, alpha=False)
    held = addresses(card, "motion")
    report = RecordingReporter()
    found = card.find_subject(clip, BOX, report)
    assert np.array_equal(found.frames[..., 3], on_the_cpu(clip, BOX))
    assert report.warnings[0] == "sam2_unavailable"
    assert addresses(card, "motion") == held


def test_a_cancel_ends_it_between_two_frames(resident: ActionMeshPipeline) -> None:
    card, report = asked_for(resident, "auto"), RecordingReporter(cancel_in="background")
    with pytest.raises(Cancelled):
        card.find_subject(tiny.clip_of(16, alpha=False), BOX, report)
    assert report.steps[-1] == ("background", 1, 16)


def test_a_frame_in_which_sam2_sees_nothing_is_named(
    resident: ActionMeshPipeline, tmp_path: Path
) -> None:
    tiny.write_sam2(tmp_path, sees=False)
    card = asked_for(resident, "auto")
    card.sam2_folder = tmp_path
    with pytest.raises(NoSubjectFound, match="0.0% of frame 1 of the 16"):
        card.find_subject(tiny.clip_of(16, alpha=False), BOX, RecordingReporter())


def test_rmbg_that_is_undecided_says_so(resident: ActionMeshPipeline) -> None:
    clip = tiny.clip_of(16, alpha=False)
    dark = clip.frames.max(axis=3, keepdims=True) < 128
    faint = np.where(dark, 78, 86).astype(np.uint8)  # the tiny net takes 0.3 and less for subject
    report = RecordingReporter()
    frames = np.repeat(faint, 3, axis=3)
    asked_for(resident, "auto").animate(replace(clip, frames=frames), "fast_low_ram", 7, report)
    assert report.warnings == ["low_confidence_segmentation"]
    text = report.messages[0]
    assert "RMBG" in text and "SUBJECT" in text and "needed 0.75" in text
