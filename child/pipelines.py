"""Builds a pipeline by its name: the only place that names a concrete one."""

from __future__ import annotations

import importlib

from pipeline import Pipeline


def build_pipeline(name: str) -> Pipeline:
    """The pipeline `name` (actionmesh, silhouette or module:Class), not yet loaded."""
    if name == "actionmesh":
        from actionmesh_wrapper import ActionMeshPipeline

        return ActionMeshPipeline()
    if name == "silhouette":
        from silhouette.pipeline import SilhouettePipeline

        return SilhouettePipeline()
    module, _, kind = name.partition(":")
    built: Pipeline = getattr(importlib.import_module(module), kind)()
    return built
