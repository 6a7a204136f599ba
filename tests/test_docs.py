"""The documentation is true: its Python runs and prints what it says, its links and quoted messages exist."""

import ast
import re
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

import forked

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
# A block of Python, and the block of text behind it: what the Python prints, where "…" is any text.
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
SETUP = """
import torch
torch.manual_seed(0)
"""
# What the README's example takes for granted.
README_SETUP = """
from torch import nn
from safetensors.torch import save_file

def network(classes):
    model = nn.Sequential()
    for name, layer in (("conv", nn.Conv2d(3, 8, 3)), ("pool", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten())):
        model.add_module(name, layer)
    model.add_module("fc", nn.Linear(8, classes))
    return model

save_file(network(10).state_dict(), "pretrained.safetensors")
model, example = network(3), torch.randn(2, 3, 8, 8)
train_set = test_set = (torch.randn(60, 3, 8, 8), torch.arange(60) % 3)
"""
BETWEEN = "#### end of block ####"
PAGES = [page for page in DOCS if "<!-- runs -->" in page.read_text(encoding="utf-8")]


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [README, *PAGES], ids=name_of)
def test_every_block_of_a_page_runs_and_prints_what_the_page_shows(page, tmp_path):
    """In one process for each page, in an empty folder; a page under docs says so by <!-- runs -->."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    setup = SETUP + (README_SETUP if page == README else "")
    script = tmp_path / "page.py"
    script.write_text(f"{setup}\n" + "".join(f"{code}\nprint({BETWEEN!r})\n" for code, _ in blocks), encoding="utf-8")

    done = forked.run(script, cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": ""}, warn=False)

    assert done.returncode == 0, done.stderr
    for (_, shown), printed in zip(blocks, done.stdout.split(BETWEEN), strict=False):
        if shown:
            assert is_shown(printed, shown), f"{name_of(page)} shows\n{shown}\nbut prints\n{printed}"


def is_shown(printed, shown):
    """Whether a page shows what is printed: "…" stands for any text, and runs of spaces count as one."""
    plain = " ".join(printed.split())
    parts = [re.escape(" ".join(part.split())) for part in shown.split("…")]
    return re.fullmatch(r"\s*.*?\s*".join(parts), plain, re.DOTALL) is not None


def test_pages_with_python_say_whether_they_run():
    """A page whose code nobody runs goes stale."""
    silent = [name_of(page) for page in DOCS if BLOCK.search(page.read_text(encoding="utf-8")) and page not in PAGES]
    assert not silent


def test_the_readme_links_every_page():
    """A page that nothing links is not found."""
    linked = re.findall(r"\]\((docs/[^)#\s]+)", README.read_text(encoding="utf-8"))
    assert [name_of(page) for page in DOCS if name_of(page) not in linked] == ["docs/book-chapter.md"]  # examples/


@pytest.mark.parametrize("page", sorted((ROOT / "docs/how-to").glob("*.md")), ids=name_of)
def test_a_how_to_says_what_it_is_for_what_it_needs_and_what_can_go_wrong(page):
    """Title, purpose in the first sentence, prerequisites, common errors."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[2].startswith("This page ")
    assert any(line.startswith("**You need**: ") for line in lines)
    assert "## Common errors" in lines


@pytest.mark.parametrize("page", [README, ROOT / "ARCHITECTURE.md", *DOCS], ids=name_of)
def test_links_lead_to_files_and_headings(page):
    """Relative links alone: an address of the web may go without our doing."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not target.startswith(("http:", "https:")) and not (
            file.exists() and (not anchor or anchor in anchors(file))
        ):
            broken.append(target)
    assert not broken


def anchors(page):
    """The headings of a page, as code hosts name them in addresses."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(page):
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_messages_that_the_docs_quote_are_those_of_the_source():
    """In a table with a column "Message", `…` stands for what the message fills in."""
    literals = "\n".join(texts_of_the_source())
    stale = [
        (name_of(page), message, part)
        for page in DOCS
        for message in quoted_messages(page)
        for part in (part.strip(" .:;,") for part in message.split("…"))
        if part not in literals
    ]
    assert not stale


def quoted_messages(page):
    """The first cells of every table whose first column is called Message."""
    lines = page.read_text(encoding="utf-8").splitlines()
    inside = False
    for line, following in pairwise([*lines, ""]):
        inside = line.startswith("| Message |") or (inside and line.startswith("|"))
        cell = re.match(r"\| `([^`]+)` \|", line)
        if inside and cell and not following.startswith("|---"):
            yield cell[1]


def texts_of_the_source():
    """Every text of the package, "…" for what an f-string fills in; neighbouring texts are one, as in Python."""
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_readmes_numbers_stand_on_the_pages_that_they_come_from():
    """Each row of the README's measurements links the page that has its numbers."""
    section = README.read_text(encoding="utf-8").split("## Measurements")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*) \| \[.*\]\((.*)\) \|$", section, re.MULTILINE)
    assert len(rows) >= 4
    for claim, page in rows:
        text = (ROOT / page).read_text(encoding="utf-8")
        missing = [number for number in re.findall(r"\d+\.\d+|\d{2,}", claim) if number not in text]
        assert not missing, f"{page} has no {missing}: {claim}"


def test_every_error_class_is_explained():
    """docs/errors.md has a row for each, and a heading or a sentence that tells what to do."""
    from regraft import errors

    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    classes = [name for name, kind in vars(errors).items() if isinstance(kind, type) and name.endswith("Error")]
    assert len(classes) > 10
    assert [name for name in classes if f"`{name}`" not in page] == []


def test_the_api_page_has_every_public_name():
    """In the order of the package, which is that of use."""
    import regraft

    page = (ROOT / "docs/api.md").read_text(encoding="utf-8").split("Objects that")[0]
    cells = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    assert [name for cell in cells for name in re.findall(r"`(\w+)", cell)] == regraft.__all__


def test_the_api_page_names_attributes_that_exist():
    """Of the objects that the public functions return."""
    from regraft.caches.features import Features
    from regraft.evaluating import Score
    from regraft.learning.history import History
    from regraft.plan import Plan
    from regraft.splitting import Head, Trunk

    page = (ROOT / "docs/api.md").read_text(encoding="utf-8").split("Objects that")[1]
    for kind in (Plan, Trunk, Head, Features, History, Score):
        fields = (name for base in kind.__mro__ for name in vars(base).get("__annotations__", {}))
        row = re.search(rf"^\| `{kind.__name__}` \| (.*) \|$", page, re.MULTILINE)
        names = re.findall(r"`(\w+)(?:\([^`]*\))?`", row[1])
        called = {"print", "trunk", "head"}  # as in `trunk(x)`
        assert names
        assert set(names) <= {*dir(kind), *fields, *called}, kind.__name__


def test_every_requirement_is_explained():
    """docs/reference-requirements.md has every word that a reader may use, and `fix_gamma`, which none does."""
    from regraft.arrays import Attribute

    page = (ROOT / "docs/reference-requirements.md").read_text(encoding="utf-8").split("## Roles")[0]
    rows = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    told = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    assert told == {*get_args(Attribute), "fix_gamma"}


def test_generated_pages_have_the_words_of_their_commands():
    """A sentence that is changed in the command alone would come back with the next measurement, or go with it."""
    import bench
    import compared
    import scale
    import streaming
    import twins
    import zoo

    words = {
        "coverage": [zoo.EXPLAINED, *zoo.DEPTHS],
        "twins": [twins.__doc__.strip().split("\n\n", 2)[2], twins.HEAD],
        "benchmarks": [bench.HEADING, *bench.WORKLOADS],
        "compared": [f"| {fault} |" for fault in compared.FAULTS],
        "streaming": [streaming.MARK],
        "scale": [scale.PAGE_TEXT.split("\n\n")[2]],
    }
    pages = {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in words}
    assert [(name, text) for name, texts in words.items() for text in texts if text not in pages[name]] == []


def test_every_method_to_adapt_an_array_is_in_the_table():
    """docs/how-to/channels.md shows each of them, and none that does not exist."""
    from regraft.plans.adapting import ADAPTATIONS

    table = (ROOT / "docs/how-to/channels.md").read_text(encoding="utf-8").split("| You have |")[1].split("\n\n")[0]
    cells = [re.split(r" \| ", row)[1] for row in table.splitlines()[2:]]
    shown = [method for cell in cells for method in re.findall(r'"([^"]+)"(?=[}`])', cell)]
    known = [method.pattern for method in ADAPTATIONS]
    assert [method for method in shown if not any(re.fullmatch(pattern, method) for pattern in known)] == []
    texts = re.findall(r'"([^"]+)"', table)
    assert [pattern for pattern in known if not any(re.fullmatch(pattern, text) for text in texts)] == []


def test_every_kind_of_problem_in_a_plan_is_explained():
    """docs/errors.md has a row for each status that stops `apply_plan`."""
    from regraft.plans.rows import PROBLEMS

    table = (ROOT / "docs/errors.md").read_text(encoding="utf-8").split("| Status |")[1].split("\n\n")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)} == {*PROBLEMS, "differs"}
