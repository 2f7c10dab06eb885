"""A new user's two commands in a clean clone: `make actionmesh`, then `make serve` and two jobs.

The packages come from the package index that pip uses. Git and the model hub are on this machine:
repositories made of the checkout in actionmesh_repo/, and tiny weights. Their commits are not
upstream's, so that the clone records those; the code is compared with upstream's by its tree.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trimesh

from tests.servers import free_port, wait_for_health
from tests.upstream import tiny
from tests.upstream.fetching import ROOT
from tests.upstream.huggingface_server import running_hub
from tests.upstream.test_worker import clip, finished

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.timeout(3600)]

GITMODULES = """[submodule "third_party/TripoSG"]
path = third_party/TripoSG
url = git@github.com:VAST-AI-Research/TripoSG.git
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git there; what it prints."""
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def committed(folder: Path) -> str:
    """Make a repository of a folder; its commit."""
    git(folder, "init", "-q")
    git(folder, "add", "--force", ".")
    git(folder, "commit", "-q", "-m", "As checked out")
    return git(folder, "rev-parse", "HEAD")


def set_submodule(folder: Path, path: str, commit: str) -> None:
    """Record the commit of a submodule."""
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    git(folder, "commit", "-q", "-m", f"Record {path}")


@pytest.fixture
def hosts(checkout: Path, tmp_path: Path) -> Path:
    """A folder with upstream's two repositories, as a code host would have them."""
    folder, skip = tmp_path / "hosts", shutil.ignore_patterns("__pycache__", ".git")
    triposg = folder / "VAST-AI-Research" / "TripoSG.git"
    shutil.copytree(checkout / "third_party" / "TripoSG", triposg, ignore=skip)
    actionmesh = folder / "facebookresearch" / "actionmesh.git"
    shutil.copytree(checkout / "actionmesh", actionmesh / "actionmesh", ignore=skip)
    (actionmesh / ".gitmodules").write_text(GITMODULES)
    committed(actionmesh)
    set_submodule(actionmesh, "third_party/TripoSG", committed(triposg))
    return folder


@pytest.fixture
def clone(hosts: Path, tmp_path: Path) -> Path:
    """This project's HEAD, with the commit of the made repository."""
    folder = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(ROOT), str(folder))
    commit = git(hosts / "facebookresearch" / "actionmesh.git", "rev-parse", "HEAD")
    set_submodule(folder, "actionmesh_repo", commit)
    return folder


def environment(hosts: Path, **more: str) -> dict[str, str]:
    """Ours, so that pip finds its settings; git is sent to `hosts` instead of github.com."""
    base = f"file://{hosts}/"
    configuration = {
        f"url.{base}facebookresearch/.insteadOf": "https://github.com/facebookresearch/",
        f"url.{base}VAST-AI-Research/.insteadOf": "git@github.com:VAST-AI-Research/",
        "protocol.file.allow": "always",  # git refuses submodules in folders
    }
    given = {"GIT_CONFIG_COUNT": str(len(configuration))}
    for number, (key, value) in enumerate(configuration.items()):
        given |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    own = ("PYTEST", "MAKE", "MFLAGS")  # of the `make test` that runs this test
    ours = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return ours | given | more


@contextmanager
def serving(clone: Path, log: Path, variables: dict[str, str]) -> Iterator[str]:
    """`make serve`; gives its address."""
    port = free_port()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["make", "serve"],
            cwd=clone,
            env={**variables, "HOST": "127.0.0.1", "PORT": str(port)},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_health(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def glb_faces(url: str, archive: str) -> list[int]:
    """Faces of each mesh in a job's zip."""
    with zipfile.ZipFile(io.BytesIO(httpx.get(url + archive, timeout=60).content)) as members:
        return [
            len(
                trimesh.load(
                    io.BytesIO(members.read(name)), file_type="glb", force="mesh", process=False
                ).faces
            )
            for name in members.namelist()
        ]


def test_two_commands_in_a_clean_clone_give_a_worker(
    clone: Path, hosts: Path, cache: Path, tmp_path: Path
) -> None:
    with running_hub(tiny.repositories(cache)) as hub:
        variables = environment(hosts, HF_HOME=str(tmp_path / "hf"), HF_ENDPOINT=hub.endpoint)
        made = subprocess.run(
            ["make", "actionmesh", f"PYTHON={sys.executable}"],
            cwd=clone, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    assert made.returncode == 0, made.stdout[-3000:]
    assert "the weights are complete" in made.stdout

    video = clip(tmp_path / "clip.mp4")
    variables |= {  # the hub has ended: no network is needed any more
        "PIPELINE": "tests.upstream.tiny_pipeline:TinyActionMesh",
        "JOBS_DIR": str(tmp_path / "jobs"),
    }
    log = tmp_path / "server.log"
    with serving(clone, log, variables) as url:
        for _ in range(2):
            reply = httpx.post(
                f"{url}/jobs",
                files={"file": ("clip.mp4", video, "video/mp4")},
                data={"mode": "fast_low_ram"},
                timeout=60,
            )
            job = finished(url, reply.json()["job_id"])
            assert job["status"] == "finished", (job, log.read_text()[-3000:])
            assert glb_faces(url, job["outputs"]["archive"]) == [job["mesh"]["faces"]] * 16
    assert log.read_text().count("is ready") == 1, "the models were loaded again"
