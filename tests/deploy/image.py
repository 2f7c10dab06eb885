"""Images built by buildah from our Dockerfile, and containers of them, for test_image.py.

debootstrap makes the base image: Debian with Python, under the name that the Dockerfile asks for.
All images lie in one folder. Each command has mount and process namespaces of its own, so that its
mounts and processes end with it, also when it is killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import ROOT, free_port, wait_for_health

DEBIAN = "bookworm"  # has Python 3.11, as the Dockerfile's base image
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
READ_ONLY = ("sh", "-c", 'mount -o remount,ro,bind / && exec "$@"', "sh")
"""Before a command in a container that has CAP_SYS_ADMIN."""


class CommandFailed(Exception):
    """A command exited with an error; the message is the end of its output."""


@dataclass(frozen=True)
class Container:
    """A running container; `first` is the process id of its first process on this machine."""

    url: str
    first: int
    process: subprocess.Popen[bytes]
    log: Path

    def execute(self, *command: str) -> str:
        """Run a command in it as root, with its environment, and return what it prints."""
        environment = Path(f"/proc/{self.first}/environ").read_text().rstrip("\0").split("\0")
        enter = ("nsenter", f"--target={self.first}", "--mount", "--pid", "--root", "--wd")
        return _run(*enter, "env", "-i", *environment, *command)


@dataclass(frozen=True)
class Images:
    """buildah's images in one folder."""

    folder: Path
    base: str

    def buildah(self, *words: str) -> str:
        """One buildah command; what it prints. Raises CommandFailed."""
        return _run(*self._buildah(), *words, folder=self.folder)

    def build(self, target: str, **arguments: str) -> str:
        """Build one target of the Dockerfile; the image's name. Raises CommandFailed."""
        name = f"localhost/{target}"
        given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        self.buildah(
            "build-using-dockerfile", "--format=docker", "--pull-never", "--network=host",
            f"--target={target}", f"--tag={name}", *given, str(ROOT),
        )  # fmt: skip
        return name

    def size_mb(self, image: str) -> float:
        """Unpacked size with its base, in MB."""
        size, unit = self.buildah("images", "--format={{.Size}}", image).split()
        return float(size) * {"KB": 1e-3, "MB": 1.0, "GB": 1e3}[unit]

    def config(self, image: str) -> dict[str, Any]:
        """What the image says of how to run it, as `docker inspect` shows it."""
        config: dict[str, Any] = json.loads(self.buildah("inspect", "--type=image", image))
        return dict(config["Docker"]["config"])

    def run(self, image: str, *command: str) -> str:
        """What a command prints in a new container without the image's entry point."""
        container = self.buildah("from", "--pull-never", image).strip()
        try:
            return self.buildah("run", container, "--", *command)
        finally:
            self.buildah("rm", container)

    @contextmanager
    def running(
        self, image: str, folder: Path, *options: str, read_only: bool = False
    ) -> Iterator[Container]:
        """A container with the image's own command, `folder`/jobs and `folder`/cache mounted.

        `options` are those of `buildah run`. `read_only` makes its root so, without a /tmp.
        """
        config = self.config(image)
        command = [*config["Entrypoint"], *config["Cmd"]]
        if read_only:
            options, command = (*options, "--cap-add=CAP_SYS_ADMIN"), [*READ_ONLY, *command]
        port, log = free_port(), folder / "container.log"
        container = self.buildah("from", "--pull-never", image).strip()
        for target in config["Volumes"]:
            # buildah 1.28 mounts the image's own volumes too, sometimes over ours
            self.buildah("config", f"--volume={target}-", container)
            options += (f"--volume={folder / Path(target).name}:{target}",)
        variables = ("--env=HOST=127.0.0.1", f"--env=PORT={port}", "--env=MIN_FREE_GB=0")
        words = ("run", "--network=host", *variables, *options, container, "--", *command)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [*self._buildah(), *words],
                env=_environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for_health(url, process, log)
            yield Container(url, _first_process(process.pid), process, log)
        finally:
            process.kill()
            process.wait(30)
            self.buildah("rm", container)

    def _buildah(self) -> tuple[str, ...]:
        folders = (f"--root={self.folder}/images", f"--runroot={self.folder}/run")
        return (*NAMESPACES, "buildah", *folders)


def why_not() -> str | None:
    """Why this machine can build no image, or None."""
    if os.geteuid() != 0:
        return "needs root"
    programs = ("buildah", "debootstrap", "unshare", "nsenter")
    if missing := [program for program in programs if shutil.which(program) is None]:
        return f"not installed: {', '.join(missing)}"
    if subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode:
        return "this root user may not mount"
    return None


def make_base(folder: Path) -> Images:
    """Debian with Python under the name of the Dockerfile's base. Raises CommandFailed."""
    tag = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert tag is not None
    images = Images(folder, f"docker.io/library/{tag[1]}")
    root = folder / "debian"
    packages = "--include=ca-certificates,python3,python3-venv"
    _run(*NAMESPACES, "debootstrap", "--variant=minbase", packages, DEBIAN, str(root))
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    (root / "usr/bin/python").symlink_to("python3")
    _configure_downloads(root)
    container = images.buildah("from", "scratch").strip()
    images.buildah("add", "--quiet", container, str(root), "/")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    images.buildah("config", f"--env={path}", container)
    images.buildah("commit", "--quiet", "--rm", container, images.base)
    shutil.rmtree(root)
    return images


def _configure_downloads(root: Path) -> None:
    """Give pip this machine's index and certificates; let apt try again, as pip does."""
    (root / "etc/apt/apt.conf.d/retries").write_text('Acquire::Retries "5";\n')
    listed = _run(sys.executable, "-m", "pip", "config", "list")
    found = dict(re.findall(r"^[^.]+\.(index-url|trusted-host|cert)='(.+)'$", listed, re.M))
    if certificates := found.get("cert"):
        shutil.copyfile(certificates, f"{root}{CERTIFICATES}")
        found["cert"] = CERTIFICATES
    lines = [f"{key} = {value}\n" for key, value in found.items()]
    (root / "etc/pip.conf").write_text("".join(["[global]\n", *lines]))


def descendants(pid: int) -> list[int]:
    """The process ids below a process, parents first."""
    found: list[int] = []
    for line in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, line.read_text().split()):
            found += [child, *descendants(child)]
    return found


def command_line(pid: int) -> list[str]:
    """A process's command."""
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def _first_process(pid: int) -> int:
    """The container's first process: what buildah's helper inside the container has started."""
    helper = next(p for p in descendants(pid) if command_line(p)[0] == "buildah-chroot-exec")
    return descendants(helper)[0]


def _run(*command: str, folder: Path | None = None) -> str:
    done = subprocess.run(
        command,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise CommandFailed(f"{' '.join(command)} exited with {done.returncode}:\n{end}")
    return done.stdout


def _environment(folder: Path | None) -> dict[str, str]:
    changes = {"TMPDIR": str(folder), "BUILDAH_ISOLATION": "chroot"} if folder else {}
    return {**os.environ, **changes}
