"""Health, readiness, capabilities, the page and the docs."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from api.page import page_files
from api.schemas import Info, Ready
from errors import ERRORS_BY_CODE
from executors.base import ExecutorOptions
from executors.local import LocalExecutor
from job.options import REQUEST_FIELDS
from job.task import ChildConfig
from pipeline import MODES, Gpu, PipelineChoice
from tests.api.bodies import ended, submit
from tests.api.conftest import Serve
from tests.inline_executors import FinishesAtOnce, WaitsForPermission
from tests.waiting import wait_until


def test_health_is_exactly_what_the_readme_says(client: httpx.Client) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert set(response.json()) == {"status", "gpu_available"}
    assert response.json()["status"] == "healthy"
    assert response.headers["cache-control"] == "no-store"


class FailsToStart(FinishesAtOnce):
    """Raises where the worker does not catch it, so that its thread ends."""

    def start(self) -> None:
        """Before the first job."""
        raise RuntimeError("a bug in an executor")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_worker_is_unhealthy(serve: Serve) -> None:
    with httpx.Client(base_url=serve(FailsToStart()).url, timeout=60) as client:
        wait_until(lambda: client.get("/health").status_code == 503)
        assert client.get("/health").json() == {"status": "unhealthy", "gpu_available": False}


def test_ready(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/ready").status_code == 200)
    assert client.get("/ready").json() == {"ready": True}
    Ready.model_validate(client.get("/ready").json())


def test_info_shows_what_the_server_supports(serve: Serve, gate: WaitsForPermission) -> None:
    with httpx.Client(base_url=serve(gate, max_upload_size=12345).url, timeout=60) as client:
        submit(client)
        assert gate.started.wait(60)
        submit(client)
        body = client.get("/info").json()
    Info.model_validate(body, strict=True)
    assert set(body) == set(Info.model_fields)
    assert body["pipeline"] == {"name": "silhouette", "reason": "PIPELINE=silhouette"}
    assert [mode["id"] for mode in body["modes"]] == list(MODES)
    assert [mode["default"] for mode in body["modes"]] == [True, False, False]
    assert body["limits"]["max_upload_bytes"] == 12345
    assert body["queue"] == {"queued": 1, "running": 1}
    assert body["options"] == REQUEST_FIELDS
    assert (body["options"]["seed"]["default"], body["options"]["fps"]["maximum"]) == (44, 60)


@pytest.mark.parametrize(
    ("settings", "revision"),
    [
        ({"pipeline": "actionmesh"}, "fb69228ba8a4df684907b5d259cff3c22fb722f1"),
        ({"pipeline": "actionmesh", "actionmesh_revision": "a" * 40}, "a" * 40),
        ({"actionmesh_revision": "a" * 40}, None),
    ],
)
def test_info_shows_the_revision_of_the_weights_in_use(
    serve: Serve, settings: dict[str, str], revision: str | None
) -> None:
    with httpx.Client(base_url=serve(**settings).url, timeout=60) as client:
        assert client.get("/info").json()["model"]["revision"] == revision


def test_info_and_health_show_what_the_children_report(serve: Serve) -> None:
    """NVML's answer, before: one of these two cards could not run a mode that the other can."""
    from_nvml = (Gpu("first", 2.0, selector="40"), Gpu("second", 2.0, selector="30"))
    config = ChildConfig("tests.executors.card_pipelines:NamesItsCard")
    executor = LocalExecutor(ExecutorOptions(config, gpus=from_nvml))
    with httpx.Client(base_url=serve(executor).url, timeout=60) as client:
        assert client.get("/info").json()["gpus"][1]["index"] == 1
        wait_until(
            lambda: {gpu["state"] for gpu in client.get("/info").json()["gpus"]} == {"ready"}
        )
        body = client.get("/info").json()
        assert body["gpus"] == [
            {"index": 0, "name": "card 40", "memory_gb": 50.0, "state": "ready"},
            {"index": 1, "name": "card 30", "memory_gb": 40.0, "state": "ready"},
        ]
        assert body["gpu"] == {"name": "card 30", "memory_gb": 40.0}
        assert client.get("/health").json() == {"status": "healthy", "gpu_available": True}
        assert 'actionmesh_slot_ready{slot="1"} 1.0' in client.get("/metrics").text
        assert 'actionmesh_slot_busy{slot="1"} 0.0' in client.get("/metrics").text


def test_a_machine_without_gpus_lists_none(client: httpx.Client) -> None:
    body = client.get("/info").json()
    assert (body["gpu"], body["gpus"]) == (None, [])


def test_the_default_mode_fits_the_card_that_a_child_reports(serve: Serve) -> None:
    """On a cluster and for the silhouette every mode is available: the choice is set here."""
    config = ChildConfig("tests.executors.card_pipelines:NamesItsCard")
    gpus = (Gpu("from NVML", 2.0, selector="70"), Gpu("from NVML", 2.0, selector="40"))
    server = serve(LocalExecutor(ExecutorOptions(config, gpus=gpus)))
    server.state.first_choice = PipelineChoice("actionmesh", "a test", Gpu("from NVML", 2.0))

    def default() -> str:
        modes = httpx.get(f"{server.url}/info", timeout=60).json()["modes"]
        return next(str(mode["id"]) for mode in modes if mode["default"])

    wait_until(lambda: server.state.worker.executor.status.is_ready)
    wait_until(lambda: default() == "default")


def test_info_shows_how_long_jobs_take(serve: Serve) -> None:
    with httpx.Client(base_url=serve().url, timeout=60) as client:
        ended(client, submit(client, mode="fast"))
        info = client.get("/info").json()
    modes = {mode["id"]: mode for mode in info["modes"]}
    assert 0 < 31 * modes["fast"]["seconds_per_frame"] <= modes["fast"]["typical_seconds"]
    assert modes["default"]["typical_seconds"] is modes["default"]["seconds_per_frame"] is None
    frames = {name: count for name, count in info["limits"].items() if "frame" in name}
    assert frames == {"min_frames": 16, "max_frames": 121, "default_frames": 31, "frame_step": 1}


# --- the page, its files, the docs


def test_the_page_or_its_links(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] in ("text/html", "application/json")


def test_the_files_of_the_page_are_served_under_their_names(client: httpx.Client) -> None:
    for address, path in page_files().items():
        response = client.get(address)
        assert response.status_code == 200, address
        assert response.content == path.read_bytes()
        tag = {"If-None-Match": response.headers["etag"]}
        assert client.get(address, headers=tag).status_code == 304
        assert client.head(address).status_code == 200


def test_text_is_compressed_if_the_client_accepts_it(client: httpx.Client) -> None:
    packed = client.get("/docs.css", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in packed.headers
    for address, path in page_files().items():
        if path.suffix == ".js" and path.stat().st_size >= 500:
            response = client.get(address, headers={"Accept-Encoding": "gzip"})
            assert response.headers["content-encoding"] == "gzip"
            plain = client.get(address, headers={"Accept-Encoding": "identity"})
            assert plain.content == response.content


def test_only_files_of_known_types_are_served(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("one")
    (tmp_path / "run.sh").write_text("no")
    (tmp_path / "link.js").symlink_to("/etc/hostname")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.css").write_text("two")
    found = page_files(tmp_path)
    assert {"/a.js", "/deep/b.css"} <= set(found)
    assert not {"/run.sh", "/link.js"} & set(found)


def test_the_docs_have_an_anchor_for_every_error(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for code in ERRORS_BY_CODE:
        assert f'id="{code}"' in page.text
    # the content policy allows nothing inline, and nothing from other hosts
    assert not re.search(r"<style|<script|style=|https?://", page.text.split("<details>")[0])
    assert client.get("/docs.css").headers["content-type"].startswith("text/css")
