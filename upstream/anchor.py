"""Stage 0: the anchor, which is the subject's mesh in the first frame, by TripoSG.

Like upstream's `init_banks_from_anchor`, with progress, and cancellable at each step and each chunk
of the octree. For {video + 3D} jobs user_mesh.py makes the anchor. Called by tries.py.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from errors import NoSubjectFound
from upstream.engine import Engine
from upstream.gpu_errors import is_cuda_failure, is_out_of_memory
from upstream.marching_cubes import recorded_failures
from upstream.speedups import Speedups, shared_octree_kv
from upstream.step_graph import graphed_steps

# one thread, so that a cancelled job's mesh is never made at the same time as the next one's
mesh_thread = ThreadPoolExecutor(1, thread_name_prefix="anchor-mesh")

Tick = Callable[..., None]
"""Reports progress: step, steps and, as the third, a message. May raise Cancelled."""


@dataclass(frozen=True)
class Anchor:
    """Timestep 0: its latent (1, N, D) for stage I, and its mesh, needed by stage II.

    `seed` is the one that both were made from, and that stage I goes on with. `mesh` gives a
    trimesh.Trimesh, which another thread may still simplify.
    """

    seed: int
    latent: Any
    mesh: Future[Any]

    @classmethod
    def finished(cls, seed: int, latent: Any, mesh: Any) -> Anchor:
        """An anchor whose mesh exists already."""
        anchor = cls(seed, latent, Future())
        anchor.mesh.set_result(mesh)
        return anchor


def anchor_from_picture(
    engine: Engine, picture: Any, seed: int, tick: Tick, use: Speedups
) -> Anchor:
    """The anchor of the prepared first picture. Raises NoSubjectFound if there is no surface.

    The weights of `shape` must be on the device.
    """
    latent, surface = _image_to_3d(engine, picture, seed, tick, use)
    finish = engine.pipe.mesh_process.process_mesh
    if use.threaded_mesh:
        return Anchor(seed, latent, mesh_thread.submit(finish, surface, seed=seed))
    return Anchor.finished(seed, latent, finish(surface, seed=seed))


def _image_to_3d(
    engine: Engine, picture: Any, seed: int, tick: Tick, use: Speedups
) -> tuple[Any, Any]:
    """Latent (1, N, D) and surface (trimesh) of one picture."""
    import torch

    pipe = engine.pipe.image_to_3d_pipe
    wanted = engine.pipe.cfg.model.image_to_3D_denoiser
    steps = int(wanted.num_inference_steps)
    last: dict[str, Any] = {}

    def denoised(_pipe: Any, step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        last["latents"] = tensors["latents"].clone()
        tick(step + 1, steps + 1)
        return tensors

    def extracting(*_: Any) -> None:
        tick(steps, steps + 1, "surface")

    hook = pipe.vae.decoder.register_forward_pre_hook(extracting)
    graph = graphed_steps(pipe.transformer) if use.step_graph else nullcontext()
    try:
        with graph, shared_octree_kv(pipe.vae) if use.shared_octree_kv else nullcontext():
            surface = call_triposg(
                pipe,
                image=picture,
                generator=torch.Generator(device=pipe.device).manual_seed(seed),
                num_inference_steps=steps,
                num_tokens=engine.pipe._denoiser_latent_shape[0],
                guidance_scale=wanted.guidance_scale,
                callback_on_step_end=denoised,
                callback_on_step_end_tensor_inputs=["latents"],
                flash_octree_depth=engine.octree_depth,
                return_dict=False,
            )
    finally:
        hook.remove()
    tick(steps + 1, steps + 1)
    return last["latents"], surface


def call_triposg(pipe: Any, **options: Any) -> Any:
    """The surface. TripoSG prints errors of its extraction, continues with None and fails later."""
    from triposg.pipelines.pipeline_triposg import TripoSGPipeline

    with recorded_failures() as failures:
        try:
            # call the parent class: the subclass that upstream calls uses the callback itself
            _, surfaces = TripoSGPipeline.__call__(pipe, **options)
        except AttributeError:
            if not failures:
                raise
            surfaces = ()
        except IndexError as exc:  # no point of the octree's first grid is near a surface
            if "non-zero size" not in str(exc):
                raise
            surfaces = ()
    if failures and (is_out_of_memory(failures[0]) or is_cuda_failure(failures[0])):
        raise failures[0]
    if not surfaces or len(surfaces[0].faces) == 0:
        raise NoSubjectFound("No closed shape could be made of the subject in frame 1.", frame=1)
    return surfaces[0]
