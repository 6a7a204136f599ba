"""Each Python block of the documentation runs, top to bottom, page by page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# torchvision has no CPU build here (vision_stub.py). tests/ leaves the path again: its folder `datasets` would hide the
# library of that name.
SETUP = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import vision_stub
sys.path.pop(0)
import torch
torch.manual_seed(0)
"""
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "<!-- runs -->" in page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(page, tmp_path):
    """In one process for each page, in an empty folder; a page says so by <!-- runs -->."""
    code = SETUP + "\n".join(BLOCK.findall(page.read_text()))
    script = tmp_path / "page.py"
    script.write_text(code)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], cwd=tmp_path, capture_output=True, text=True, timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_pages_with_python_say_whether_they_run():
    """A page whose code nobody runs goes stale."""
    silent = [
        str(page.relative_to(ROOT))
        for page in (ROOT / "docs").rglob("*.md")
        if BLOCK.search(page.read_text()) and page not in PAGES
    ]
    assert not silent
