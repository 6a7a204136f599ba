"""The package's description: README.md with links that also work away from the repository. See pyproject.toml."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)\s]+)\)")


def absolute(readme: str, repository: str, version: str) -> str:
    """The text with links to `repository` at this version; without a repository the words of a link stay alone."""

    def link(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if not repository:
            return "" if mark else text
        return f"{mark}[{text}]({repository.rstrip('/')}/{'raw' if mark else 'blob'}/v{version}/{target})"

    return LINK.sub(link, readme)


def description() -> str:
    """README.md as a package index shows it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["regraft"]
    version = re.search(r'^__version__ = "([^"]*)"', (ROOT / "src/regraft/__init__.py").read_text(), re.MULTILINE)
    assert version is not None
    return absolute((ROOT / "README.md").read_text(encoding="utf-8"), settings["repository"], version[1])


if __name__ == "__main__":
    setup(long_description=description(), long_description_content_type="text/markdown")
