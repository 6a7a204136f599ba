"""Where the golden files lie: tiny checkpoints with inputs and outputs, written by tests/golden/make_*.py."""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden"


def golden_arrays(name):
    """The arrays of a golden `.npz`."""
    with np.load(GOLDEN / name) as archive:
        return {key: archive[key] for key in archive.files}


def facts_of(checkpoint, layer):
    """The requirements of one layer, attribute → value; without the wiring, which stands beside them."""
    return {
        one.attribute: one.value
        for one in checkpoint.requirements
        if one.layer == layer and one.attribute not in ("inputs", "operation")
    }
