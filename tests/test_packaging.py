"""What a package index and a reader of the folder see: version, license, description."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import regraft
from typed import typed

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def build_script():
    """setup.py as a module."""
    spec = importlib.util.spec_from_file_location("regraft_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_is_the_same_everywhere():
    """In Python, on the command line and in the record of a saved model."""
    from regraft.saving import versions

    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev0)?", regraft.__version__)
    assert typed("--version").output == f"regraft {regraft.__version__}\n"
    assert versions()["regraft"] == regraft.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version", "readme"]


def test_the_license_is_the_one_that_the_package_names():
    """In the folder, and so in the wheel."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
    assert "Apache License\n" in (ROOT / "LICENSE").read_text()
    assert "license: Apache-2.0" in (ROOT / "CITATION.cff").read_text()


def test_links_of_the_description_lead_to_this_version(build_script):
    """A package index resolves no relative link; addresses and headings stay."""
    text = "![a](docs/a.png) [b](docs/b.md#c) [`d`](https://e.org) [f](#g)"
    assert build_script.absolute(text, "https://host.org/us/it/", "1.2.0") == (
        "![a](https://host.org/us/it/raw/v1.2.0/docs/a.png) [b](https://host.org/us/it/blob/v1.2.0/docs/b.md#c) "
        "[`d`](https://e.org) [f](#g)"
    )
    assert build_script.absolute(text, "", "1.2.0") == " b [`d`](https://e.org) [f](#g)"


def test_the_description_has_no_relative_link(build_script):
    """Whether or not the project has a public address."""
    assert build_script.LINK.search(build_script.description()) is None
    assert build_script.description().startswith("# regraft\n")


def test_every_change_has_a_kind_that_the_changelog_knows():
    """A fragment of another name would be left out of CHANGELOG.md without a word."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in settings["type"]}
    fragments = [path.name for path in (ROOT / "changes").glob("*.md")]
    assert [name for name in fragments if name.split(".")[-2] not in kinds] == []
