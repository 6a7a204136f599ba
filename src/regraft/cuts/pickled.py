"""Pickles of trunks: which code made them, and whether their model is still cut at the same place."""

import hashlib
from functools import cache
from pathlib import Path

from regraft.cuts.cut import Cut
from regraft.errors import SplitError

OUTDATED = (
    "The trunk was pickled by another version of regraft, and cannot be made again. Load the model and call `split` "
    "with an example."
)


@cache
def digest_of_code() -> str:
    """Of all code that records and proves."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("*.py")), folder.parent / "splitting.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def refuse_other_cut(pickled: Cut, now: Cut) -> None:
    """Raise SplitError where features of the pickled trunk would not fit."""
    before, after = ([(leaf.name, leaf.shape, leaf.dtype) for leaf in cut.leaves] for cut in (pickled, now))
    if before != after:
        raise SplitError(f"{OUTDATED} It cuts the model elsewhere.\nPickled:\n{pickled}\nThis version:\n{now}")
