"""A job of 121 frames over HTTP: every timestep is in every file, in order."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.api.bodies import frames_zip
from tests.servers import process_server
from video.sampling import MAX_FRAMES


@pytest.mark.slow
def test_a_job_of_121_frames_has_all_of_them_in_every_file(tmp_path: Path) -> None:
    with process_server(tmp_path, PIPELINE="tests.pipelines:Specks") as server:
        form = {"max_frames": str(MAX_FRAMES), "formats": "npz"}
        sent = httpx.post(
            f"{server.url}/jobs", data=form, files={"file": ("c.zip", frames_zip(130))}
        )
        at = f"{server.url}/jobs/{sent.raise_for_status().json()['job_id']}"
        job = httpx.get(at, params={"wait": 55}, timeout=60).json()
        assert job["status"] == "finished", job
        names = [f"mesh_{k:03d}.glb" for k in range(MAX_FRAMES)]
        outputs = job["outputs"]
        assert [url.rpartition("/")[2] for url in outputs["per_frame_meshes"]] == names
        archive = httpx.get(server.url + outputs["archive"]).content
        assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == names
        arrays = np.load(io.BytesIO(httpx.get(server.url + outputs["npz"]).content))
        assert len(arrays["vertices"]) == job["mesh"]["timesteps"] == MAX_FRAMES
        assert outputs["preview_video"] and outputs["animated_mesh"]
