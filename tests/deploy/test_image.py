"""The image is built by buildah, and jobs run through its entry point: `make image-test`."""

from __future__ import annotations

import functools
import http.server
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from client import Client
from examples.output_checks import check_outputs
from subject import model_file
from tests.deploy import image
from tests.deploy.image import CommandFailed, Container, Images, command_line, descendants
from tests.servers import ROOT
from tests.waiting import wait_until

CLIP = ROOT / "examples" / "dancing_sprout.mp4"
WORKER_ID, OTHER_ID = 10001, 20000
MOST_MB, STOP_S = 700, 30

pytestmark = pytest.mark.timeout(900)  # the first test also waits for the build


@pytest.fixture(scope="module")
def images() -> Iterator[Images]:
    """A folder of images with only the base; it is removed afterwards."""
    if why := image.why_not():
        pytest.skip(f"no image can be built here: {why}")
    with tempfile.TemporaryDirectory(prefix="actionmesh_image_") as name:
        try:
            made = image.make_base(Path(name))
        except CommandFailed as exc:
            pytest.skip(f"no base image can be made here: {str(exc).splitlines()[-1]}")
        yield made
        assert name not in Path("/proc/self/mounts").read_text()


@pytest.fixture(scope="module")
def cpu_image(images: Images) -> str:
    """The name of the image for a machine without a GPU."""
    return images.build("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `jobs` and `cache` as docker makes them for a bind mount: root's."""
    for name in ("jobs", "cache"):
        (tmp_path / name).mkdir(mode=0o755)
    return tmp_path


def run_job(container: Container, folder: Path) -> None:
    """Send the example clip, wait for it, download all files and check them."""
    client = Client(container.url)
    job_id = client.submit(CLIP, mode="fast")
    job = client.wait(job_id)
    client.save(job_id, folder / "outputs")
    assert check_outputs(folder / "outputs", job) > 8


def owners(folder: Path) -> set[tuple[int, int]]:
    """User and group of the two folders and of all that is in them."""
    found = [folder / name for name in ("jobs", "cache")]
    found += [path for top in found for path in top.rglob("*")]
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in found}


def status(pid: int, field: str) -> str:
    """A field of a process's status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


def test_a_job_runs_as_the_worker_in_folders_that_root_made(
    images: Images, cpu_image: str, folder: Path
) -> None:
    with images.running(cpu_image, folder) as container:
        run_job(container, folder)
        assert command_line(container.first) == ["python", "main.py"]
        for pid in (container.first, *descendants(container.first)):
            assert status(pid, "Uid").split() == [str(WORKER_ID)] * 4
            assert status(pid, "NoNewPrivs") == "1"
        for path in ("/", "/client.py", "/docs", "/openapi.json"):
            assert httpx.get(f"{container.url}{path}").status_code == 200, path
    assert owners(folder) == {(WORKER_ID, WORKER_ID)}


def test_a_job_that_a_stop_interrupts_is_finished_by_a_new_container(
    images: Images, cpu_image: str, folder: Path
) -> None:
    with images.running(cpu_image, folder) as container:
        job_id = Client(container.url).submit(CLIP, mode="fast")
        wait_until(lambda: Client(container.url).status(job_id)["status"] == "running")
        os.kill(container.first, signal.SIGTERM)
        container.process.wait(STOP_S)
        assert "Application shutdown complete" in container.log.read_text()
    with images.running(cpu_image, folder) as container:
        assert Client(container.url).wait(job_id)["status"] == "finished"


@pytest.mark.parametrize(
    ("options", "user"),
    [(f"--user={OTHER_ID}:{OTHER_ID}", OTHER_ID), ("--cap-drop=ALL", 0)],
    ids=["another user", "no capabilities"],
)
def test_a_job_runs_as_the_user_that_was_asked_for(
    images: Images, cpu_image: str, folder: Path, options: str, user: int
) -> None:
    for name in ("jobs", "cache"):
        os.chown(folder / name, user, user)
    with images.running(cpu_image, folder, options) as container:
        run_job(container, folder)
        assert status(container.first, "Uid").split() == [str(user)] * 4
    assert owners(folder) == {(user, user)}


def test_a_job_runs_on_a_read_only_root_without_tmp(
    images: Images, cpu_image: str, folder: Path
) -> None:
    with images.running(cpu_image, folder, read_only=True) as container:
        with pytest.raises(CommandFailed, match="Read-only file system"):
            container.execute("touch", "/tmp/file")
        run_job(container, folder)
        assert status(container.first, "Uid").split() == [str(WORKER_ID)] * 4


def test_the_image_says_how_to_check_its_health(
    images: Images, cpu_image: str, folder: Path
) -> None:
    check = images.config(cpu_image)["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    with images.running(cpu_image, folder) as container:
        container.execute(*check[1:])
        with pytest.raises(CommandFailed, match="exited with 1"):
            container.execute("env", "PORT=1", *check[1:])


def test_the_image_is_small_and_holds_nothing_private(images: Images, cpu_image: str) -> None:
    above_base_mb = images.size_mb(cpu_image) - images.size_mb(images.base)
    assert above_base_mb <= MOST_MB
    top = set(images.run(cpu_image, "ls", "-A", "/app").split())
    assert top >= {"main.py", "client.py", "web", "examples", "upstream"}
    assert not top & {"tests", "benchmarks", ".git", ".venv", ".ci", "actionmesh_repo"}


def test_the_image_holds_the_model_for_every_user(images: Images, cpu_image: str) -> None:
    kept = f"/opt/venv/share/actionmesh-worker/{model_file.NAME}"
    assert images.run(cpu_image, "sha256sum", kept).split()[0] == model_file.SHA256
    assert images.run(cpu_image, "stat", "--format=%a", kept) == "644\n"


@contextmanager
def mirror_of_github(folder: Path) -> Iterator[tuple[str, str]]:
    """A repository of upstream's name and its submodule over HTTP; address and commit."""

    def git(path: Path, *words: str) -> str:
        who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        command = ["git", "-C", str(path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(path: Path, name: str) -> str:
        (path / name).touch()
        git(path, "add", name)
        git(path, "commit", "--quiet", f"--message=Add {name}")
        return git(path, "rev-parse", "HEAD")

    triposg = folder / "VAST-AI-Research/TripoSG.git"
    upstream = folder / "facebookresearch/actionmesh"
    for path in (triposg, upstream):
        path.mkdir(parents=True)
        git(path, "init", "--quiet")
    address = "git@github.com:VAST-AI-Research/TripoSG.git"
    entry = f'[submodule "TripoSG"]\n\tpath = third_party/TripoSG\n\turl = {address}\n'
    (upstream / ".gitmodules").write_text(entry)
    entry_id = f"160000,{commit(triposg, 'code.py')},third_party/TripoSG"
    git(upstream, "add", ".gitmodules")
    git(upstream, "update-index", "--add", "--cacheinfo", entry_id)
    pinned = commit(upstream, "code.py")
    commit(upstream, "newer.py")
    for path in (triposg, upstream):
        git(path, "update-server-info")
        path.rename(path.with_suffix(".work"))
        (path.with_suffix(".work") / ".git").rename(path)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", pinned
        finally:
            server.shutdown()


def test_upstreams_code_comes_from_a_mirror_at_the_asked_commit(
    images: Images, tmp_path: Path
) -> None:
    with mirror_of_github(tmp_path) as (address, commit):
        built = images.build("checkout", GITHUB_URL=address, ACTIONMESH_COMMIT=commit)
    found = images.run(built, "find", "/src/actionmesh_repo", "-mindepth", "1")
    names = sorted(line.removeprefix("/src/actionmesh_repo/") for line in found.split())
    submodule = "third_party/TripoSG"
    assert names == [".gitmodules", "code.py", "third_party", submodule, f"{submodule}/code.py"]
