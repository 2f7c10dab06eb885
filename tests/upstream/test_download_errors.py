"""Each way in which the weights cannot be had is told in its own words, with what to do.

`python -m upstream.weights` against a hub on this machine; its last line is read. No torch.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.api.bodies import ended, submit
from tests.faults.disk import SmallDisk
from tests.servers import ProcessServer
from tests.upstream.fetching import cached, fails, restricted, start, succeeds
from tests.upstream.huggingface_server import NEWEST, Hub, Refusal, safetensors
from tests.waiting import wait_until
from upstream.sources import SOURCES

pytestmark = pytest.mark.slow

TRIPOSG = next(source for source in SOURCES if source.name == "triposg")
RMBG = next(source for source in SOURCES if source.runs_code)
TRANSFORMER = "VAST-AI/TripoSG/transformer/diffusion_pytorch_model.safetensors"
TERMS = "terms on https://huggingface.co/briaai/RMBG-1.4"
TOKEN = "hf_example"


@dataclass(frozen=True)
class Refused:
    """What the hub answers for RMBG, and the words that must and must not be told."""

    refusal: Refusal
    told: tuple[str, ...]
    not_told: str = "network"
    token: str = ""


REFUSED = {
    "gated, without a token": Refused(
        Refusal(401, "GatedRepo", "Access is restricted", listed=True),
        (TERMS, "HF_TOKEN", "HTTP 401", "needs an account"),
        not_told="expired",
    ),
    "gated, with a token": Refused(
        Refusal(403, "GatedRepo", "Access is restricted", listed=True),
        (TERMS, "HTTP 403", "account has no access"),
        token=TOKEN,
    ),
    "forbidden": Refused(Refusal(403, message="Forbidden"), (TERMS, "HTTP 403"), token=TOKEN),
    "private": Refused(Refusal(401, "RepoNotFound", "Repository not found"), (TERMS, "HF_TOKEN")),
    "an expired token": Refused(
        Refusal(401, message="Invalid credentials in Authorization header"),
        ("expired", "HF_TOKEN", "https://huggingface.co/settings/tokens"),
        not_told="terms",
        token=TOKEN,
    ),
    "too many requests": Refused(Refusal(429, message="Too many"), ("HTTP 429", "Wait")),
    "a broken hub": Refused(Refusal(503, message="Down"), ("HTTP 503", "Try again later")),
    "no such repository": Refused(
        Refusal(404, "RepoNotFound", "Repository not found"), ("no such repository", RMBG.page)
    ),
}


class _SilentServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks a connection off is what is tested."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 64 MB."""
    try:
        disk = SmallDisk(tmp_path / "disk", megabytes=64)
    except OSError as exc:
        pytest.skip(f"{exc.strerror}: only root may")
    yield disk
    disk.unmount()


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_what_to_do(tmp_path: Path, hub: Hub, case: str) -> None:
    refused = REFUSED[case]
    hub.refusals[RMBG.repo_id] = refused.refusal
    line = fails(start(tmp_path, hub, HF_TOKEN=refused.token))
    assert RMBG.repo_id in line
    for words in refused.told:
        assert words in line
    assert refused.not_told not in line


def test_a_job_tells_what_to_do_and_the_next_one_finds_the_weights(
    tmp_path: Path, hub: Hub, start_server: Callable[..., ProcessServer]
) -> None:
    hub.refusals[RMBG.repo_id] = REFUSED["gated, without a token"].refusal
    server = start_server(
        PIPELINE="tests.pipelines:FetchesWeights",
        HF_HOME=str(tmp_path / "hf"),
        HF_ENDPOINT=hub.endpoint,
    )
    with httpx.Client(base_url=server.url, timeout=60) as client:
        job = ended(client, submit(client))
        assert job["error_code"] == "weights_unavailable"
        assert RMBG.repo_id in job["error"] and TERMS in job["error_hint"]
        hub.refusals.clear()
        assert ended(client, submit(client))["status"] == "finished"


def test_without_network_and_weights_the_error_has_a_hint(tmp_path: Path, hub: Hub) -> None:
    hub.is_down = True
    line = fails(start(tmp_path, hub))
    assert "facebook/ActionMesh are not on disk" in line
    assert "the network failed" in line and "copy a complete HF_HOME" in line


@pytest.mark.parametrize("endpoint", ["", "hf-mirror.example"])
def test_a_mirror_that_is_no_address_is_named(tmp_path: Path, hub: Hub, endpoint: str) -> None:
    line = fails(start(tmp_path, hub, HF_ENDPOINT=endpoint))
    assert "HF_ENDPOINT is not an address" in line and "network" not in line


def test_a_certificate_that_is_not_trusted_is_told(tmp_path: Path, hub: Hub) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with _SilentServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"https://127.0.0.1:{server.server_port}"
        line = fails(start(tmp_path / "hf", hub, HF_ENDPOINT=address))
        server.shutdown()
    assert "the certificate of the mirror in HF_ENDPOINT is not trusted" in line
    assert "REQUESTS_CA_BUNDLE" in line and "network" not in line


def test_a_hub_that_does_not_answer_is_given_up(tmp_path: Path, hub: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = fails(start(tmp_path, hub, HF_ENDPOINT=address, HF_HUB_ETAG_TIMEOUT="1"))
    assert "the network failed (ReadTimeout)" in line


def test_offline_without_a_cache_names_the_variable(tmp_path: Path, hub: Hub) -> None:
    line = fails(start(tmp_path, hub, HF_HUB_OFFLINE="1"))
    assert "HF_HUB_OFFLINE is set" in line and "network" not in line
    assert not hub.listings


def test_files_of_another_user_are_told(tmp_path: Path, hub: Hub) -> None:
    home = tmp_path / "hf"
    succeeds(start(home, hub))
    for folder in (home / "hub" / RMBG.cache_folder, home):
        with restricted(folder):
            line = fails(start(home, hub))
        assert "HF_HOME cannot be written (PermissionError)" in line


def test_a_bad_file_that_cannot_be_removed_is_told(tmp_path: Path, hub: Hub) -> None:
    succeeds(start(tmp_path, hub))
    model = cached(tmp_path, RMBG) / "model.safetensors"
    os.truncate(model, 500)
    with restricted(model.resolve().parent, 0o500):
        assert "HF_HOME cannot be written (PermissionError)" in fails(start(tmp_path, hub))
    succeeds(start(tmp_path, hub))


@pytest.mark.parametrize("home", ["file/hf", "hf"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, hub: Hub, home: str) -> None:
    (tmp_path / "hf").mkdir()
    for name in ("file", "hf/hub"):
        (tmp_path / name).write_text("no folder")
    line = fails(start(tmp_path / home, hub))
    assert "HF_HOME cannot be written" in line and "network" not in line


def test_a_vanished_default_revision_gives_the_newest_and_says_so(tmp_path: Path, hub: Hub) -> None:
    hub.vanished.add(TRIPOSG.repo_id)
    text = succeeds(start(tmp_path, hub))
    assert "https://huggingface.co/VAST-AI/TripoSG has no revision" in text
    assert cached(tmp_path, TRIPOSG, NEWEST).is_dir()
    assert f"Set TRIPOSG_REVISION={NEWEST} to keep it" in text
    succeeds(start(tmp_path, hub, TRIPOSG_REVISION=NEWEST, HF_HUB_OFFLINE="1"))


def test_a_vanished_revision_of_code_is_an_error(tmp_path: Path, hub: Hub) -> None:
    hub.vanished.add(RMBG.repo_id)
    line = fails(start(tmp_path, hub))
    assert "it has no revision 2ceba5a5" in line and "RMBG_REVISION" in line


def test_a_revision_that_was_asked_for_is_not_replaced(tmp_path: Path, hub: Hub) -> None:
    line = fails(start(tmp_path, hub, TRIPOSG_REVISION="a" * 40))
    assert f"it has no revision {'a' * 40}" in line
    assert "https://huggingface.co/VAST-AI/TripoSG/commits/main" in line


def test_wrong_bytes_are_removed_and_fetched_again(tmp_path: Path, hub: Hub) -> None:
    right = hub.repositories[TRIPOSG.repo_id][TRANSFORMER.removeprefix("VAST-AI/TripoSG/")]
    hub.wrong[TRANSFORMER] = right[:-1] + b"x"
    line = fails(start(tmp_path, hub))
    assert "diffusion_pytorch_model.safetensors arrived with the wrong SHA-256" in line
    hub.wrong.clear()
    succeeds(start(tmp_path, hub))
    assert hub.sent[TRANSFORMER] == 2 * len(right)


def test_too_little_space_is_told_before_the_download(small_disk: SmallDisk, hub: Hub) -> None:
    hub.repositories[TRIPOSG.repo_id]["vae/diffusion_pytorch_model.safetensors"] = safetensors(
        80_000_000
    )
    line = fails(start(small_disk.folder, hub, HOME=str(small_disk.folder)))
    assert "0.08 GB are missing" in line and "0.07 GB are free" in line
    assert not {name for name in hub.sent if name}, "something was downloaded"


def test_what_is_on_disk_is_not_counted_as_missing(small_disk: SmallDisk, hub: Hub) -> None:
    hub.repositories[TRIPOSG.repo_id]["vae/diffusion_pytorch_model.safetensors"] = safetensors(
        40_000_000
    )
    succeeds(start(small_disk.folder, hub, HOME=str(small_disk.folder)))
    (cached(small_disk.folder, TRIPOSG) / "model_index.json").unlink()
    succeeds(start(small_disk.folder, hub, HOME=str(small_disk.folder)))


def test_files_on_a_disk_without_links_are_not_counted_as_missing(
    small_disk: SmallDisk, hub: Hub
) -> None:
    hub.repositories[TRIPOSG.repo_id]["vae/diffusion_pytorch_model.safetensors"] = safetensors(
        40_000_000
    )
    succeeds(start(small_disk.folder, hub, HOME=str(small_disk.folder)))
    for path in cached(small_disk.folder, TRIPOSG).rglob("*"):
        if path.is_symlink():  # as the hub's library puts them there, or a copy does
            path.resolve().rename(path)
    (cached(small_disk.folder, TRIPOSG) / "model_index.json").unlink()
    succeeds(start(small_disk.folder, hub, HOME=str(small_disk.folder)))


def test_a_disk_that_becomes_full_meanwhile_is_told(small_disk: SmallDisk, hub: Hub) -> None:
    hub.repositories[TRIPOSG.repo_id][TRANSFORMER.removeprefix("VAST-AI/TripoSG/")] = safetensors(
        30_000_000
    )
    hub.held[TRANSFORMER] = threading.Event()
    process = start(small_disk.folder, hub, HOME=str(small_disk.folder))
    wait_until(lambda: hub.sent[TRANSFORMER] > 0)
    small_disk.fill()
    hub.held[TRANSFORMER].set()
    line = fails(process)
    assert "GB are missing" in line and "GB are free" in line
    assert "network" not in line
