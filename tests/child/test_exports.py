"""Optional files of a job: a failure is a warning, never a failed job.

Real meshes, the real child; small executables behave as Blender may.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path

import httpx
import imageio_ffmpeg
import numpy as np
import pytest

from child import exports
from child.pipelines import build_pipeline
from child.recipe import Recipe
from executors.base import ExecutorOptions, run_to_end
from executors.local import LocalExecutor
from job.task import ChildConfig, Progress, Result, Stopped, Task
from meshes.external_tools import ToolFailed
from pipeline import Gpu
from tests.api.bodies import frames_zip, send
from tests.job_factory import OPTIONS, with_options
from tests.servers import quick_settings, thread_server
from tests.waiting import wait_until

PROMISED = {"animated_mesh.glb", "meshes.zip", "mesh_000.glb", "mesh_015.glb", "preview.mp4"}
HAS_USD = importlib.util.find_spec("pxr") is not None
NO_USD = "usd-core is not installed (requirements/usd.txt)"


def local(pipeline: str, blender_path: str = "", **environment: str) -> LocalExecutor:
    config = ChildConfig(
        f"tests.pipelines:{pipeline}", blender_path=blender_path, environment=environment
    )
    return LocalExecutor(ExecutorOptions(config))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    folder = tmp_path / "6b2f8c1e-7f1c-4f4e-9d43-1d2c3b4a5f60"
    folder.mkdir()
    (folder / "input").write_bytes(frames_zip())
    return Task(folder.name, 1, folder, "zip", OPTIONS)


@pytest.fixture
def hanging_blender(tmp_path: Path) -> Path:
    """Prints Blender's version and never ends."""
    path = tmp_path / "hanging"
    path.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo Blender 4.2.0 && exit 0\n'
        f"echo $$ > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/began; sleep 600\n"
    )
    path.chmod(0o755)
    return path


def run(task: Task, blender_path: str = "") -> tuple[Result, set[str], set[str]]:
    """The recipe in this process: its result, the names of its files, the codes of its warnings."""
    recipe = Recipe(
        build_pipeline("tests.pipelines:Specks"),
        lambda *_, **__: None,
        threading.Event(),
        blender_path=blender_path,
    )
    return _facts(recipe.run(task))


def _facts(result: Result) -> tuple[Result, set[str], set[str]]:
    return (
        result,
        {file.name for file in result.files},
        {warning["code"] for warning in result.warnings},
    )


def test_npz_needs_nothing_beside_the_requirements(task: Task) -> None:
    result, names, warnings = run(with_options(task, formats=("npz",)))
    assert names >= PROMISED | {"animated_mesh.npz"} and not warnings
    with np.load(task.workspace / "animated_mesh.npz") as arrays:
        assert arrays["vertices"].shape == (16, result.mesh["vertices"], 3)
        assert float(arrays["fps"]) == result.mesh["fps"]


@pytest.mark.skipif(not HAS_USD, reason=NO_USD)
def test_usdz_is_made_with_usd_core(task: Task) -> None:
    _, names, warnings = run(with_options(task, formats=("usdz", "npz", "skinned")))
    more = {"animated_mesh.usdz", "skinned_mesh.usdz", "animated_mesh.npz", "skinned_mesh.glb"}
    assert names >= PROMISED | more and not warnings


@pytest.mark.skipif(HAS_USD, reason="usd-core is installed")
def test_usdz_without_usd_core_is_a_warning(task: Task) -> None:
    _, names, warnings = run(with_options(task, formats=("usdz",)))
    assert names >= PROMISED and "animated_mesh.usdz" not in names and warnings == {"usdz_failed"}


@pytest.mark.parametrize(
    ("blender", "code"),
    [
        ("", "blender_unavailable"),
        ("/nowhere/blender", "blender_unavailable"),
        ("/bin/true", "blender_failed"),
        ("/bin/false", "blender_failed"),
    ],
)
def test_a_blender_failure_affects_only_its_own_files(task: Task, blender: str, code: str) -> None:
    result, names, warnings = run(with_options(task, blender_export=True), blender)
    assert names >= PROMISED and warnings == {code}
    assert not any(name.endswith((".fbx", ".abc")) for name in names)
    (warning,) = result.warnings
    assert "/" not in warning["message"]


def test_a_cancel_during_blender_ends_it(task: Task, hanging_blender: Path, tmp_path: Path) -> None:
    executor = local("Specks", str(hanging_blender))
    seen: list[Progress] = []

    def note(progress: Progress) -> None:
        seen.append(progress)
        if (tmp_path / "began").exists() and len([p for p in seen if "Blender" in p.message]) > 3:
            executor.cancel(task.job_id)

    try:
        outcome = run_to_end(executor, with_options(task, blender_export=True), note)
        assert isinstance(outcome, Stopped)
        blender = int((tmp_path / "began").read_text())
        wait_until(lambda: not Path(f"/proc/{blender}/fd").exists() or _is_zombie(blender))
        child = executor.slots[0].child
        assert child is not None and child.is_alive  # it answered, and can do the next job
    finally:
        executor.close()


def _is_zombie(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return True


def test_without_an_encoder_the_meshes_are_still_written(task: Task, tmp_path: Path) -> None:
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    executor = local("LosesItsFfmpeg", IMAGEIO_FFMPEG_EXE=str(ffmpeg))
    try:
        result = run_to_end(executor, task)
    finally:
        executor.close()
    assert isinstance(result, Result)
    _, names, warnings = _facts(result)
    assert names >= PROMISED - {"preview.mp4"} and warnings == {"preview_unavailable"}


def test_the_cpu_draws_the_preview_if_the_gpu_fails(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Fails:
        def __init__(self, *_: object) -> None:
            asked.append(self)

        def render(self, *_: object) -> list[np.ndarray]:
            raise ToolFailed("the GPU could not draw the preview")

    monkeypatch.setattr(exports, "renderer_on_gpu", lambda: Fails)
    _, names, warnings = run(task)
    assert asked and names >= PROMISED and not warnings


@pytest.mark.parametrize("gpu", [None, Gpu("small", 12.0, 0.5), Gpu("a large one", 80.0, 60.0)])
def test_the_cpu_draws_the_preview_without_a_working_pytorch3d(
    gpu: Gpu | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pytorch3d"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('built for another torch')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith(("pytorch3d", "meshes.raste"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(exports, "find_gpus", lambda _: [gpu] if gpu else [])
    assert exports.renderer_on_gpu() is None


def test_over_http_a_job_without_blender_finishes_with_one_warning(tmp_path: Path) -> None:
    settings = quick_settings(tmp_path / "jobs")
    with (
        thread_server(settings.jobs_dir, local("Specks"), settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        sent = send(client, fields={"blender_export": "true", "formats": "npz"})
        job = client.get(f"/jobs/{sent.json()['job_id']}", params={"wait": 55}).json()
        assert job["status"] == "finished", job
        assert [warning["code"] for warning in job["warnings"]] == ["blender_unavailable"]
        assert client.get(job["outputs"]["animated_mesh"]).content[:4] == b"glTF"
        assert client.get(job["outputs"]["npz"]).content[:2] == b"PK"
        assert not {"fbx", "abc", "usdz"} & set(job["outputs"])
        sent = send(client, fields={"formats": "usdz"})
        assert sent.status_code == (202 if HAS_USD else 422)
        if not HAS_USD:
            assert sent.json()["code"] == "mode_unavailable"


@pytest.mark.timeout(300)
def test_the_real_blender_adds_its_files(task: Task, real_blender: str) -> None:
    asked = with_options(task, blender_export=True, formats=("skinned",))
    _, names, warnings = run(asked, real_blender)
    assert names >= PROMISED | {"animated_mesh.fbx", "skinned_mesh.fbx"}
    assert ("animated_mesh.abc" in names) != (warnings == {"alembic_unavailable"})


@pytest.mark.timeout(300)
def test_the_real_blender_adds_only_what_was_asked_for(task: Task, real_blender: str) -> None:
    _, names, warnings = run(with_options(task, formats=("fbx",)), real_blender)
    assert {name for name in names if name.endswith((".fbx", ".abc"))} == {"animated_mesh.fbx"}
    assert not warnings
