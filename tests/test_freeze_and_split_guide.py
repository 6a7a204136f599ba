"""The code of docs/how-to/freeze-and-split.md runs as it stands."""

import re
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "freeze-and-split.md"


def test_every_block_of_the_guide_runs(capsys):
    """One after the other, in one place, as a reader would."""
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        exec(compile(block, GUIDE.name, "exec"), names)
    assert "bytes per example" in capsys.readouterr().out
