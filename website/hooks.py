"""Pages of the site that are made from other files: the start page from README.md, the reference from docstrings.

The navigation is the README's table of documentation, so that a page that the README links is in the site.
"""

import inspect
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
TABLE = re.compile(r"\n## Documentation\n(.*?)\n## ", re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(docs/([^)#]+)\)")
# Files beside docs/ → their page in the site; links to other files of the repository keep their words alone.
BESIDE = {"ARCHITECTURE.md": "architecture.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
BESIDE |= {"examples/README.md": "examples.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation, from the README."""
    sections: list[Any] = [{"Home": "index.md"}]
    listed = set()
    for row in readme_table():
        pages = LINK.findall(row)
        name = row.split("|")[1].strip()
        if pages:
            sections.append({name: [{title[0].upper() + title[1:]: page} for title, page in pages]})
            listed |= {page for _, page in pages}
    docs = Path(config.docs_dir)
    others = sorted({path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - listed)
    sections.append({"Measurements": others})
    project = {
        "Reference of all functions": "reference.md",
        "Architecture": "architecture.md",
        "Examples": "examples.md",
    }
    project |= {"Architecture": "architecture.md", "Contributing": "contributing.md", "Changelog": "changelog.md"}
    sections.append({"Project": [{title: page} for title, page in project.items()]})
    config.nav = sections
    return config


def readme_table() -> list[str]:
    """The rows of the README's table of documentation."""
    match = TABLE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert match is not None
    return [line for line in match[1].splitlines() if line.startswith("| ")]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files."""
    made = {"index.md": (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")}
    made |= {page: (ROOT / name).read_text(encoding="utf-8") for name, page in BESIDE.items()}
    made["reference.md"] = reference()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files beside docs/ to their pages; leave the words of links to other files of the repository."""
    up = "../" * page.file.src_uri.count("/")

    def link(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, _, anchor = target.partition("#")
        name = path.replace("../", "").removeprefix("docs/")
        anchor = f"#{anchor}" if anchor else ""
        if name in BESIDE:
            return f"[{text}]({up}{BESIDE[name]}{anchor})"
        if path.startswith("../docs/") or (page.file.src_uri == "architecture.md" and path.startswith("docs/")):
            return f"[{text}]({up}{name}{anchor})"
        docs = Path(config.docs_dir).resolve()
        file = (docs / page.file.src_uri).parent.joinpath(path).resolve()
        return match[0] if path == "" or (file.exists() and file.is_relative_to(docs)) else text

    outside = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    pattern = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)([^)\s]+)\)")
    return "".join(part if part.startswith("```") else pattern.sub(link, part) for part in outside)


def reference() -> str:
    """Every public name with its signature and its docstring."""
    import regraft

    parts = ["# Reference", "", "All public names in order of use, from their docstrings."]
    for name in regraft.__all__:
        value = getattr(regraft, name)
        parts += ["", f"## {name}", "", "```python", signature_of(name, value), "```", ""]
        parts += ["```text", inspect.getdoc(value) or "", "```"]
    return "\n".join(parts) + "\n"


def signature_of(name: str, value: object) -> str:
    """The call, one argument a line where it is long."""
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]  # a function or a class
    except (TypeError, ValueError):
        return name
    arguments = [re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", str(each)) for each in signature.parameters.values()]
    starred = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values())
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if not starred and inspect.Parameter.KEYWORD_ONLY in kinds:
        arguments.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) <= 90 else f"{name}(\n    " + ",\n    ".join(arguments) + ",\n)"
