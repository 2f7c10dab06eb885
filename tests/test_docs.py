"""The docs are compared with the code: settings, addresses, error codes and files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import client
from errors import ERRORS_BY_CODE
from main import create_app
from pipeline import MODES
from settings import VARIABLE_NAMES, VERSION, Settings
from tests.test_architecture import ALLOWED

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DEPLOY = (ROOT / "deploy.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("variable", VARIABLE_NAMES)
def test_every_setting_has_a_row(variable: str) -> None:
    assert f"| `{variable}` |" in DEPLOY


def test_no_setting_is_documented_that_does_not_exist() -> None:
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", DEPLOY + README, re.MULTILINE))
    assert named <= set(VARIABLE_NAMES)


def test_server_client_and_changelog_have_the_same_version() -> None:
    newest = re.search(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)
    assert newest is not None and VERSION == client.__version__ == newest[1]


@pytest.mark.parametrize("code", ERRORS_BY_CODE)
def test_every_error_code_has_a_row_with_its_status(code: str) -> None:
    row = next((row for row in API.splitlines() if row.startswith("|") and f"`{code}`" in row), "")
    assert f"| {ERRORS_BY_CODE[code].status} |" in row


def test_every_address_is_listed() -> None:
    paths = create_app(Settings(pipeline="silhouette")).openapi()["paths"]
    for path, methods in paths.items():
        for method in methods:
            if method != "head":
                assert f"`{method.upper()} {path}`" in API, f"{method} {path}"


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_explained(mode: str) -> None:
    assert f"`{mode}`" in README and f"`{mode}`" in DEPLOY


@pytest.mark.parametrize(
    "page",
    ["README.md", "deploy.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))],
)
def test_links_have_targets(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"""(?:\]\(|src(?:set)?=")([^)"#]+)[)"]""", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_architecture_md_shows_the_import_rules_that_are_tested() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for package, allowed in ALLOWED.items():
        names = ", ".join(f"`{name}`" for name in allowed.split()) or "nothing"
        assert f"| `{package}` | {names} |" in page


def test_architecture_md_names_every_package_and_every_top_level_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    for name in {*packages, "web", *(path.name for path in ROOT.glob("*.py"))}:
        assert name in page, name


EXAMPLES = {
    "An option of a job": r'"faces": "|--faces"|n="faces"|faces: (Annotat|int \| N)|\| `faces`',
    "A stage of the work": r"""["']decoding["']|  decoding:|motion, decoding, exporting""",
    "An output format": r"\busdz\b",
    "A pipeline": r"""["']silhouette["']""",
}
NOT_TOUCHED = {"benchmarks", "examples", "tests", "vendor", ".venv", "actionmesh_repo", "node"}


def _sources() -> dict[str, str]:
    """Path -> text of every file that somebody who adds something may have to change."""
    found = [*ROOT.rglob("*.py"), *ROOT.rglob("*.js"), *ROOT.rglob("*.html"), *ROOT.glob("*.toml")]
    found += [*ROOT.glob("requirements/*.txt"), ROOT / "docs" / "api.md", ROOT / "pyproject.toml"]
    paths = {str(path.relative_to(ROOT)): path for path in found}
    paths.pop("api/examples.py")  # bodies of whole replies, for OpenAPI
    return {
        name: path.read_text()
        for name, path in paths.items()
        if not NOT_TOUCHED & set(Path(name).parts)
    }


@pytest.mark.parametrize("recipe", EXAMPLES)
def test_contributing_md_lists_every_file_that_an_addition_touches(recipe: str) -> None:
    page = (ROOT / "docs" / "CONTRIBUTING.md").read_text()
    section = page.partition(f"### {recipe} ")[2].partition("### ")[0]
    listed = set(re.findall(r"`([\w/.-]+\.[a-z]+)`", section)) & set(_sources())
    touched = {name for name, text in _sources().items() if re.search(EXAMPLES[recipe], text)}
    assert listed - {"tests/test_architecture.py"} == touched
