"""Each speed-up alone: the same numbers, fewer passes, and no hook left afterwards."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actionmesh_wrapper import ActionMeshPipeline
from pipeline import MODES, Mode
from tests.upstream import tiny
from tests.upstream.conftest import loaded
from tests.upstream.recording_reporter import RecordingReporter
from upstream import speedups
from upstream.anchor import call_triposg
from upstream.background import remove_background, to_pictures
from upstream.step_graph import graphed_steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]

ROUNDING = 1e-5


def pipe_of(resident: ActionMeshPipeline) -> Any:
    assert resident.engine is not None
    return resident.engine.pipe


@pytest.mark.parametrize("seed", range(4))
def test_cropping_first_gives_upstreams_pixels(opened: Any, seed: int) -> None:
    from actionmesh.preprocessing.image_processor import ImagePreprocessor

    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (3, 120 + seed, 161, 4), dtype=np.uint8)
    frames[..., 3] = 0
    for k, frame in enumerate(frames):
        top, left = 10 + 3 * k, 20 + 11 * seed
        frame[top : top + 60, left : left + 80, 3] = rng.integers(0, 256, (60, 80))
    pictures = to_pictures(frames)
    wanted = ImagePreprocessor().process_images(pictures)
    for made, stock in zip(speedups.crop_first(pictures), wanted, strict=True):
        assert np.array_equal(np.asarray(made), np.asarray(stock))


def test_batched_background_gives_upstreams_masks(resident: ActionMeshPipeline) -> None:
    remover = pipe_of(resident).background_removal
    frames = tiny.clip_of(16, alpha=False).frames.copy()
    alpha = np.full((*frames.shape[:3], 1), 255, np.uint8)
    pictures = to_pictures(np.concatenate([frames, alpha], axis=3))
    pictures[2] = to_pictures(tiny.clip_of(16).frames)[2]  # one that has its own alpha
    wanted = [remover.process_image(picture) for picture in pictures]
    for batch in (1, 3, 4):
        reported: list[tuple[int, int]] = []
        made = remove_background(
            remover, pictures, lambda *step, reported=reported: reported.append(step), batch
        )
        assert reported[-1] == (16, 16)
        for ours, stock in zip(made, wanted, strict=True):
            assert np.array_equal(np.asarray(ours), np.asarray(stock))


def test_the_octree_needs_one_decoder_pass(resident: ActionMeshPipeline) -> None:
    import torch

    # on a CPU float16 would round where a GPU does not
    vae = copy.deepcopy(pipe_of(resident).image_to_3d_pipe.vae).float()
    random = torch.Generator().manual_seed(1)
    latent = torch.randn(1, tiny.TOKENS, tiny.CHANNELS, generator=random)
    points = torch.rand(4, 500, 3, generator=random) * 2 - 1
    passes: list[int] = []
    vae.decoder.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    chunks = [points[:2], points[2:], points[:1]]
    pairs = [(latent.expand(len(chunk), -1, -1), chunk) for chunk in chunks]
    with torch.no_grad():
        wanted = [vae.decode(*pair).sample for pair in pairs]
        assert len(passes) == len(chunks)
        with speedups.shared_octree_kv(vae):
            made = [vae.decode(*pair).sample for pair in pairs]
        assert len(passes) == len(chunks) + 1
        after = vae.decode(*pairs[0]).sample
    assert all((a - b).abs().max() < ROUNDING for a, b in zip(made, wanted, strict=True))
    assert torch.equal(after, wanted[0])
    assert "forward" not in vars(vae.decoder)


@pytest.mark.parametrize("split", [False, True])
def test_a_zero_context_skips_cross_attention(resident: ActionMeshPipeline, split: bool) -> None:
    import torch

    denoiser = pipe_of(resident).temporal_3D_denoiser
    random = torch.Generator().manual_seed(3)
    frames = 4
    hidden = torch.randn(2, frames, tiny.TOKENS, tiny.CHANNELS, generator=random)
    context = torch.randn(2, frames, 26, tiny.CONTEXT, generator=random)
    context[0] = 0
    times = torch.arange(frames, dtype=torch.float32).expand(2, -1)

    def run() -> Any:
        halves = [slice(0, 1), slice(1, 2)] if split else [slice(0, 2)]
        with torch.inference_mode():
            return torch.cat(
                [
                    denoiser.forward(
                        hidden_states=hidden[half],
                        context=context[half],
                        framestep=times[half],
                        diffusion_time=torch.full((len(hidden[half]),), 0.5),
                        mask=torch.zeros(len(hidden[half]), frames),
                    )[0]
                    for half in halves
                ]
            )

    processors = [block.x_attn.processor for block in denoiser.blocks]
    rows: list[int] = []
    hook = denoiser.blocks[0].x_attn.to_q.register_forward_hook(
        lambda _module, given, _out: rows.append(given[0].shape[0])
    )
    try:
        wanted = run()
        before = sum(rows)
        rows.clear()
        with speedups.bias_cross_attention(denoiser):
            made = run()
    finally:
        hook.remove()
    assert before == 2 * frames
    assert sum(rows) == frames
    assert (made - wanted).abs().max() < ROUNDING
    assert "forward" not in vars(denoiser)
    assert [block.x_attn.processor for block in denoiser.blocks] == processors
    assert torch.equal(run(), wanted)


def test_the_mesh_thread_gives_the_same_mesh_later(resident: ActionMeshPipeline) -> None:
    use = speedups.Speedups.none()
    threaded = replace(use, threaded_mesh=True)
    clip = tiny.clip_of(16)
    wanted = resident.animate(clip, "fast", 4, RecordingReporter())
    resident.use, report = threaded, RecordingReporter()
    try:
        made = resident.animate(clip, "fast", 4, report)
    finally:
        resident.use = use
    assert np.array_equal(made.vertices, wanted.vertices)
    assert len(report.anchors) == 1


def test_triposg_errors_other_than_a_missing_surface_are_not_hidden(
    resident: ActionMeshPipeline,
) -> None:
    with pytest.raises(ValueError, match="image"):
        call_triposg(pipe_of(resident).image_to_3d_pipe, image=object())


def decoder_answers(autoencoder: Any, vertices: int, seed: int = 5) -> Any:
    """What stage II's last block answers for so many vertices."""
    import torch

    random = torch.Generator().manual_seed(seed)
    kv_cache = torch.randn(1, 16 * (tiny.TOKENS + 1), tiny.WIDTH, generator=random)
    queries = torch.randn(1, vertices, autoencoder.input_dim_decoder, generator=random)
    with torch.inference_mode():
        return autoencoder.fwd_cross_attn(kv_cache, queries)


def test_many_vertices_are_answered_in_chunks(
    resident: ActionMeshPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    autoencoder = pipe_of(resident).temporal_3D_vae
    vertices = speedups.QUERY_ROWS + 1000
    wanted = decoder_answers(autoencoder, vertices)
    rows: list[int] = []
    hook = autoencoder.blocks[-1].register_forward_pre_hook(
        lambda _module, given: rows.append(given[0].shape[1])
    )
    try:
        with speedups.decoder_tail(autoencoder, in_chunks=True, in_bfloat16=False):
            made = decoder_answers(autoencoder, vertices)
    finally:
        hook.remove()
    assert rows == [speedups.QUERY_ROWS, 1000]
    assert (made - wanted).abs().max() < ROUNDING
    assert "fwd_cross_attn" not in vars(autoencoder)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_fast_math_moves_vertices_by_rounding_only(resident: ActionMeshPipeline, kind: str) -> None:
    """In the type of the stage around it, whose autocast upstream disables for this block."""
    import torch

    half = getattr(torch, kind)
    autoencoder = pipe_of(resident).temporal_3D_vae
    wanted = decoder_answers(autoencoder, 3000)
    kinds: set[Any] = set()
    hook = autoencoder.blocks[-1].x_attn.to_q.register_forward_hook(
        lambda _module, _given, out: kinds.add(out.dtype)
    )
    try:
        with (
            torch.autocast("cpu", dtype=half),
            torch.autocast("cpu", enabled=False),
            speedups.decoder_tail(autoencoder, in_chunks=True, in_bfloat16=True),
        ):
            made = decoder_answers(autoencoder, 3000)
    finally:
        hook.remove()
    assert kinds == {half}
    assert made.dtype == torch.float32
    error = (torch.sigmoid(made) - torch.sigmoid(wanted)).abs() * 2  # as upstream moves a vertex
    assert 0 < error.max() < 4e-3
    assert "fwd_cross_attn" not in vars(autoencoder)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_rotation_in_place_gives_upstreams_bits(opened: Any, kind: str, per_sample: bool) -> None:
    import torch
    from actionmesh.model.utils import attention_processor as module
    from actionmesh.model.utils.rotary_embedding import compute_rotary_embeddings

    random = torch.Generator().manual_seed(6)
    qkv = torch.randn(2, 33, 4, 96, generator=random).to(getattr(torch, kind))
    query = qkv[..., :32].transpose(1, 2)  # (B, H, S, D), laid out as in stage II
    if kind == "float32":
        query = 1 * query  # as in stage I, by a norm
    tables = compute_rotary_embeddings(32, torch.arange(33.0))
    if per_sample:
        tables = tuple(table.expand(2, -1, -1) for table in tables)
    upstreams = module.apply_rotary_embedding
    wanted = upstreams(query, *tables)
    with speedups.in_place_rotation():
        made = module.apply_rotary_embedding(query, *tables)
    assert torch.equal(made, wanted)
    assert made.stride() == wanted.stride()
    assert module.apply_rotary_embedding is upstreams


@pytest.mark.parametrize("mode", MODES)
def test_a_job_with_rotation_in_place_has_the_same_bits_under_autocast(
    cache: Any, autocast: None, mode: Mode
) -> None:
    import torch

    pipeline = loaded(speedups.Speedups.none())
    pipe_of(pipeline).image_to_3d_pipe.to(torch.float32)  # a CPU's autocast refuses float16
    clip = tiny.clip_of(16)
    wanted = pipeline.animate(clip, mode, 7, RecordingReporter())
    pipeline.use = replace(pipeline.use, in_place_rotation=True)
    made = pipeline.animate(clip, mode, 7, RecordingReporter())
    assert np.array_equal(made.vertices, wanted.vertices)


def test_fast_math_is_off_unless_it_is_asked_for() -> None:
    assert not speedups.Speedups().bfloat16_tail
    assert not any(vars(speedups.Speedups.none()).values())


def test_on_a_cpu_stage_0_runs_without_a_graph(resident: ActionMeshPipeline) -> None:
    transformer = pipe_of(resident).image_to_3d_pipe.transformer
    with graphed_steps(transformer):
        assert "forward" not in vars(transformer)


def test_a_graph_of_stage_0_gives_the_same_shape_and_keeps_no_memory(cache: Any) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("a CUDA graph needs a CUDA GPU")
    clip = tiny.clip_of(16)
    use = speedups.Speedups.none()
    wanted = loaded(use, "cuda:0").animate(clip, "default", 9, RecordingReporter())
    graphed = loaded(replace(use, step_graph=True), "cuda:0")
    held = []
    for _ in range(3):
        made = graphed.animate(clip, "default", 9, RecordingReporter())
        held.append(torch.cuda.memory_allocated())
        assert np.array_equal(made.vertices, wanted.vertices)
    assert held[2] == held[1]  # the first one makes workspaces, which are kept
