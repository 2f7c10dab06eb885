"""One CUDA graph for the denoising steps of stage 0, whose thousands of small kernels wait for
Python otherwise.

The graph repeats the kernels of one step on new inputs, so the numbers are the same. It lives for
one job: the weights may be elsewhere in the next one. anchor.py uses it; on a CPU it does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)


@contextmanager
def graphed_steps(transformer: Any) -> Iterator[None]:
    """Inside the block, TripoSG's transformer is replayed from a CUDA graph from step 2 on.

    The model must not move meanwhile. If it cannot be captured, the job goes on without a graph.
    """
    if next(transformer.parameters()).device.type != "cuda":
        yield
        return
    transformer.forward = _StepGraph(transformer.forward)
    try:
        yield
    finally:
        del transformer.forward


class _StepGraph:
    """Stands in for `forward`: eager once, then captured, then replayed."""

    def __init__(self, forward: Any) -> None:
        self._forward = forward
        self._warm = self._failed = False
        self._graph: Any = None
        self._latents: Any = None  # (2, N, D): the graph reads its inputs here
        self._timestep: Any = None  # (2,)
        self._context: Any = None  # (2, S, C): the same tensor in each step of a job
        self._output: Any = None

    def __call__(
        self, latents: Any, timestep: Any, encoder_hidden_states: Any, **options: Any
    ) -> Any:
        import torch

        inputs = (latents, timestep, encoder_hidden_states)
        if not self._warm:
            self._warm = True  # libraries set themselves up here: a capture forbids that
            return self._run(inputs, options)
        if self._graph is None and not self._failed:
            try:
                self._capture(inputs, options)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                log.warning("stage 0 runs without a CUDA graph", exc_info=True)
                self._failed = True
        if self._failed:
            return self._run(inputs, options)
        self._latents.copy_(latents)
        self._timestep.copy_(timestep)
        self._graph.replay()
        return self._output

    def _run(self, inputs: tuple[Any, Any, Any], options: dict[str, Any]) -> Any:
        latents, timestep, context = inputs
        return self._forward(latents, timestep, encoder_hidden_states=context, **options)

    def _capture(self, inputs: tuple[Any, Any, Any], options: dict[str, Any]) -> None:
        import torch

        self._latents, self._timestep = inputs[0].clone(), inputs[1].clone()
        self._context = inputs[2]
        graph = torch.cuda.CUDAGraph()
        # the outer one, because a capture that fails leaves its own stream the current one;
        # thread_local, because other threads of this process may use the GPU meanwhile
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, capture_error_mode="thread_local"),
        ):
            self._output = self._run((self._latents, self._timestep, self._context), options)
        self._graph = graph
