"""Settings: the README's defaults, one line for a wrong value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from settings import VARIABLE_NAMES, Settings, SettingsError

ROOT = Path(__file__).resolve().parent.parent


def test_the_defaults_are_the_readmes() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.port == 8000
    assert settings.jobs_dir == Path("/tmp/actionmesh_jobs")
    assert settings.max_upload_size == 104_857_600


def test_an_empty_value_counts_as_unset() -> None:
    assert Settings.from_environment(dict.fromkeys(VARIABLE_NAMES, " ")) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "0"), ("PORT", "65536"), ("PORT", "http"), ("MAX_UPLOAD_SIZE", "-1"),
        ("MAX_UPLOAD_SIZE", "100MB"), ("MAX_QUEUE", "0"), ("MIN_FREE_GB", "nan"),
        ("JOB_TIMEOUT", "inf"), ("KEEP_INPUT", "perhaps"), ("PIPELINE", "magic"),
        ("LOG_FORMAT", "xml"), ("SUBJECT", "mask"), ("ROOT_PATH", "mesh"), ("RAY_ADDRESS", "auto"),
        ("API_KEY", ","), ("PORT", "8_000"),
        ("ALLOWED_HOSTS", "https://mesh.example"), ("ALLOWED_HOSTS", "mesh.example/x, b.example"),
        ("ALLOWED_HOSTS", "*mesh.example"), ("ALLOWED_HOSTS", ","),
        ("ALLOWED_HOSTS", "büro.example"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_variable_in_one_line(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        Settings.from_environment({variable: value})
    assert str(wrong.value).startswith(variable) and "\n" not in str(wrong.value)


def test_values_are_read() -> None:
    settings = Settings.from_environment(
        {"API_KEY": "a, b", "KEEP_INPUT": "off", "ROOT_PATH": "/mesh/", "PIPELINE": "Silhouette"}
    )
    assert settings.api_keys == ("a", "b")
    assert not settings.keep_input
    assert settings.root_path == "/mesh"
    assert settings.pipeline == "silhouette"


@pytest.mark.parametrize(
    ("value", "read"),
    [("blender", "blender"), ("./b", str(Path.cwd() / "b")), ("~/b", str(Path.home() / "b"))],
)
def test_a_program_is_a_name_in_path_or_an_absolute_path(value: str, read: str) -> None:
    assert str(Settings.from_environment({"BLENDER_PATH": value}).blender_path) == read


def test_required_keys_must_be_there() -> None:
    with pytest.raises(SettingsError, match="API_KEY"):
        Settings.from_environment({"REQUIRE_AUTH": "1"})


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_a_loopback_host_is_known(host: str, local: bool) -> None:
    assert Settings(host=host).bound_to_loopback is local


def test_every_setting_that_the_pipeline_reads_reaches_the_child() -> None:
    """Each setting that the child's code reads is in `child_environment`."""
    commits = [digit * 40 for digit in "abcde"]
    full = Settings(
        hf_home=Path("/models"), subject="model", subject_model=Path("/models/u2netp.onnx"),
        actionmesh_compile=True, actionmesh_fast_math=True,
        actionmesh_any_checkout=True, sam2_revision=commits[4],
        actionmesh_revision=commits[0], triposg_revision=commits[1],
        dinov2_revision=commits[2], rmbg_revision=commits[3],
    )  # fmt: skip
    sources = [
        ROOT / "actionmesh_wrapper.py",
        *ROOT.glob("upstream/*.py"),
        *ROOT.glob("child/*.py"),
        *ROOT.glob("subject/*.py"),
    ]
    read = {
        name
        for path in sources
        for name in re.findall(r"\bsettings\.(?!child_|from_)(\w+)", path.read_text())
        if hasattr(Settings, name)
    }
    assert len(read) >= 4
    arrived = Settings.from_environment(full.child_environment())
    for name in read:
        assert getattr(full, name) != getattr(Settings(), name), f"{name}: give it a value above"
        assert getattr(arrived, name) == getattr(full, name), f"{name} does not reach the child"


def test_nodes_of_a_cluster_get_no_paths_of_this_machine() -> None:
    settings = Settings(
        hf_home=Path("/models"), subject_model=Path("/u2netp.onnx"), actionmesh_compile=True
    )
    assert settings.child_environment(with_paths=False) == {"ACTIONMESH_COMPILE": "1"}
