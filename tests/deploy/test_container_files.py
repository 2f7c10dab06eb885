"""The container files, compared with the repository: no container engine is needed."""

from __future__ import annotations

import fnmatch
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from settings import Settings
from tests.servers import ROOT, ProcessServer
from tests.test_architecture import ALLOWED

DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORED = [
    line.partition("#")[0].strip() for line in (ROOT / ".dockerignore").read_text().splitlines()
]
ENTRYPOINT = ROOT / "deploy" / "entrypoint.sh"
UNIT = (ROOT / "deploy" / "actionmesh-worker.service").read_text()


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its words, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    split = (line.strip().partition(" ") for line in text.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, _, rest in split]


def is_sent(path: str) -> bool:
    """As Docker reads .dockerignore: the last rule that matches the path or a folder above it."""
    parts = path.split("/")
    above = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    sent = True
    for rule in filter(None, IGNORED):
        pattern = rule.removeprefix("!")
        if any(_matches(name, pattern) for name in above):
            sent = rule.startswith("!")
    return sent


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(name.rsplit("/", 1)[-1], pattern[3:])
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    stages = {rest.split()[-1] for word, rest in instructions() if word == "FROM"}
    for word, rest in instructions():
        if word != "COPY":
            continue
        words = rest.split()
        if words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages, rest
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert source == "." or is_sent(source), source


def test_the_builder_gets_the_server_and_nothing_private() -> None:
    for source in ROOT.glob("*.py"):
        assert is_sent(source.name), source.name
    packages = {name for name in ALLOWED if (ROOT / name).is_dir()} | {"web", "deploy"}
    for package in packages:
        assert is_sent(f"{package}/__init__.py"), package
    for path in ("web/vendor/three.js", "examples/dancing_sprout.mp4", "requirements/gpu.lock"):
        assert is_sent(path), path
    for path in (
        ".env", ".git/config", "jobs/a/input", "cache/hub/x", "tests/servers.py", "secrets.txt",
        "api/__pycache__/a.pyc", ".venv/bin/python", "actionmesh_repo/README.md", "docs/api.md",
    ):  # fmt: skip
        assert not is_sent(path), path


def test_every_base_image_is_pinned_and_takes_a_digest() -> None:
    arguments = [rest for word, rest in instructions() if word == "ARG"]
    defaults = dict(rest.split("=", 1) for rest in arguments if "=" in rest)
    for name in ("PYTHON", "CUDA"):
        assert re.fullmatch(r"\S+:\d+\.\d+\.\d+-\S+", defaults[f"{name}_IMAGE"])
        assert defaults[f"{name}_DIGEST"] == ""
    stages: set[str] = set()
    for rest in (rest for word, rest in instructions() if word == "FROM"):
        base, _, stage = rest.split()
        assert base in stages or base.endswith("_DIGEST}"), rest
        stages.add(stage)
    assert {"cpu", "gpu"} <= stages
    assert instructions()[-1][0] == "VOLUME"


def test_both_images_get_the_model_that_finds_subjects_and_a_failed_fetch_stops_the_build() -> None:
    stages: dict[str, list[str]] = {}
    for word, rest in instructions():
        if word == "FROM":
            stages[rest.split()[-1]] = stage = []
        elif word in ("COPY", "RUN"):
            stage.append(rest)
    for name in ("cpu", "gpu"):
        environment = next(at for at, rest in enumerate(stages[name]) if "/opt/venv" in rest)
        assert stages[name].index("python -m subject.model_file") > environment


def test_images_and_make_install_the_same_gltfpack() -> None:
    texts = DOCKERFILE, (ROOT / "Makefile").read_text()
    docker, make = (re.findall(r"gltfpack@([\d.]+)", text) for text in texts)
    assert docker == make and len(make) == 1


@pytest.mark.parametrize("name", ["requirements/cpu.lock", "requirements/gpu.lock"])
def test_every_locked_package_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text, "an address"
    pinned = re.findall(
        r"^([a-z0-9.-]+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.M
    )
    lines = [line for line in text.splitlines() if line and line[0] not in "# "]
    assert len(pinned) == len(lines) > 20


@pytest.mark.parametrize(
    ("lock", "inputs"),
    [
        ("requirements/cpu.lock", ["requirements.txt"]),
        ("requirements/gpu.lock", ["requirements.txt", "requirements/actionmesh.txt"]),
    ],
)
def test_the_lock_holds_everything_that_is_required(lock: str, inputs: list[str]) -> None:
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))
    for name in inputs:
        for line in (ROOT / name).read_text().splitlines():
            found = re.match(r"([A-Za-z0-9_.-]+)\s*(?:==(\S+))?", line)
            if line.startswith("#") or found is None:
                continue
            version = locked.get(found[1].lower().replace("_", "-"))
            assert version, f"{found[1]} is not in {lock}: run `make lock`"
            assert found[2] in (None, version), (
                f"{found[1]} is {version} in {lock}: run `make lock`"
            )


def test_the_entry_point_is_a_sound_shell_script() -> None:
    assert ENTRYPOINT.stat().st_mode & stat.S_IXOTH
    subprocess.run(["sh", "-n", str(ENTRYPOINT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(ENTRYPOINT)], check=True)


def test_the_entry_point_without_a_user_keeps_its_user(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "JOBS_DIR": str(tmp_path / "jobs"),
        "HF_HOME": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        ["sh", str(ENTRYPOINT), "echo", "two words"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "two words\n"


def test_compose_parses_and_its_nginx_reads_what_the_worker_writes() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with requirements/dev.txt")
    compose: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    worker, nginx = compose["services"]["worker"], compose["services"]["nginx"]
    assert worker["build"]["target"] == "gpu" and "./jobs:/app/jobs" in worker["volumes"]
    uid = re.search(r"useradd --uid (\d+)", DOCKERFILE)
    assert uid and nginx["user"] == f"{uid[1]}:{uid[1]}"
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    for mount in nginx["volumes"]:
        source, target, _ = mount.split(":")
        assert source == "./jobs" or (ROOT / source).exists()
        assert source != "./jobs" or f"alias {target}/;" in site
    hosts = re.fullmatch(r"\$\{ALLOWED_HOSTS:-(.+)\}", worker["environment"]["ALLOWED_HOSTS"])
    assert hosts and Settings.from_environment({"ALLOWED_HOSTS": hosts[1]}).allowed_hosts


def test_the_unit_sets_what_the_nginx_site_and_a_restart_need() -> None:
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    folder = re.search(r"JOBS_DIR=(\S+)", UNIT)
    assert folder and f"alias {folder[1]}/;" in site
    for line in ("KillMode=mixed", "RestartPreventExitStatus=2", "NoNewPrivileges=yes"):
        assert line in UNIT.splitlines()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "actionmesh-worker.service"
    unit.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", UNIT))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    ours = [line for line in found.stderr.splitlines() if unit.name in line]
    assert not ours, ours


def test_the_health_check_fails_without_a_server(server: ProcessServer) -> None:
    def check(port: str) -> int:
        command = [sys.executable, str(ROOT / "deploy" / "healthcheck.py")]
        return subprocess.run(command, env={"PORT": port, "http_proxy": "http://x:1"}).returncode

    assert check(server.url.rpartition(":")[2]) == 0
    assert check("1") == 1
