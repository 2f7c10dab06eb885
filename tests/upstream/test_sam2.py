"""SAM 2 with tiny random weights: what reaches transformers' model, and what comes out of it.

Random weights show no tracking: they show that frames, their order, the prompt and the masks' size
are right. Needs torch and transformers, not upstream's checkout.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import SubjectChoice
from tests.upstream import tiny

torch = pytest.importorskip("torch", reason="`make actionmesh` installs torch")

from upstream.sam2 import Sam2Unavailable, follow  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")

SIDE = 64
"""Of the tiny model's squares."""
BOX = SubjectChoice(box=(0.25, 0.2, 0.75, 0.9))
POINT = SubjectChoice(point=(0.4, 0.7))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam2")
    tiny.write_sam2(folder)
    return folder


@pytest.fixture
def frames() -> NDArray[np.uint8]:
    """Six frames of 90 x 160; each is brighter than the one before."""
    noise = np.random.default_rng(0).integers(0, 40, (6, 90, 160, 3))
    return (noise + 40 * np.arange(6)[:, None, None, None]).astype(np.uint8)


@pytest.fixture
def seen() -> Iterator[dict[str, list[Any]]]:
    """The arguments of the real model's parts, by the name of their class, while a test runs."""
    calls: dict[str, list[Any]] = {}

    def record(module: Any, given: tuple[Any, ...]) -> None:
        calls.setdefault(type(module).__name__, []).append(given)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(record)
    yield calls
    hook.remove()


def unwatched(_done: int) -> None:
    """Nobody wants to know."""


@pytest.mark.parametrize(
    ("choice", "points"),
    [(BOX, [(0.25, 0.2), (0.75, 0.9)]), (POINT, [(0.4, 0.7)])],
    ids=["box", "point"],
)
def test_the_prompt_reaches_the_model_in_pixels_of_its_square(
    weights: Path,
    frames: NDArray[np.uint8],
    seen: dict[str, list[Any]],
    choice: SubjectChoice,
    points: list[tuple[float, float]],
) -> None:
    follow(weights, frames, choice, "cpu", unwatched)
    prompts = [given[0] for given in seen["Sam2VideoPositionalEmbedding"] if len(given) == 2]
    asked = prompts[0][0, 0, : len(points)].numpy() - 0.5  # transformers adds half a pixel
    assert np.allclose(asked, SIDE * np.array(points), atol=1e-4)


def test_frames_reach_the_model_in_order_and_normalized(
    weights: Path, frames: NDArray[np.uint8], seen: dict[str, list[Any]]
) -> None:
    follow(weights, frames, BOX, "cpu", unwatched)
    squares = [given[0] for given in seen["Sam2PatchEmbeddings"]]
    assert [tuple(square.shape) for square in squares] == [(1, 3, SIDE, SIDE)] * len(frames)
    red = (frames[..., 0].mean(axis=(1, 2)) / 255 - 0.485) / 0.229
    assert np.allclose([float(square[0, 0].mean()) for square in squares], red, atol=0.01)


def test_alphas_have_the_frames_size_and_soft_edges(
    weights: Path, frames: NDArray[np.uint8]
) -> None:
    done: list[int] = []
    alphas = follow(weights, frames, BOX, "cpu", done.append)
    assert alphas.dtype == np.uint8 and alphas.shape == frames.shape[:3]
    assert done == list(range(len(frames) + 1))
    for alpha in alphas:
        assert alpha.min() < 127 < alpha.max()
        assert ((alpha > 0) & (alpha < 255)).any()
    other = follow(weights, frames, POINT, "cpu", unwatched)
    assert (other != alphas).any(), "the prompt changes nothing"


def test_what_on_frame_raises_ends_the_work(
    weights: Path, frames: NDArray[np.uint8], seen: dict[str, list[Any]]
) -> None:
    def cancel(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(weights, frames, BOX, "cpu", cancel)
    assert len(seen["Sam2PatchEmbeddings"]) == 2
    assert not torch.is_inference_mode_enabled()


def test_weights_that_cannot_be_read_make_it_unavailable(
    tmp_path: Path, frames: NDArray[np.uint8]
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sam2_video"')
    with pytest.raises(Sam2Unavailable, match="cannot be read"):
        follow(tmp_path, frames, BOX, "cpu", unwatched)


def test_the_masks_are_those_of_transformers_own_processor(
    weights: Path, frames: NDArray[np.uint8]
) -> None:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("transformers' processor needs torchvision, which is not installed")
    from transformers import Sam2ImageProcessorFast, Sam2VideoModel, Sam2VideoProcessor
    from transformers import Sam2VideoVideoProcessor as VideoProcessor

    model = Sam2VideoModel.from_pretrained(weights).eval()
    size = {"height": SIDE, "width": SIDE}
    processor = Sam2VideoProcessor(
        image_processor=Sam2ImageProcessorFast(size=size), video_processor=VideoProcessor(size=size)
    )
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    session = processor.init_video_session(video=video, inference_device="cpu")
    assert BOX.box is not None
    box = [part * length for part, length in zip(BOX.box, (160, 90, 160, 90), strict=True)]
    processor.add_inputs_to_inference_session(session, frame_idx=0, obj_ids=1, input_boxes=[[box]])
    made = follow(weights, frames, BOX, "cpu", unwatched)
    for found in model.propagate_in_video_iterator(session, start_frame_idx=0):
        masks = processor.post_process_masks([found.pred_masks], [[90, 160]], binarize=False)[0]
        wanted = 255 * masks[0, 0].sigmoid().numpy()
        assert np.abs(wanted - made[found.frame_idx]).max() <= 1
