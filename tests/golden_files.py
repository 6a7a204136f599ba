"""Where the golden files lie: tiny checkpoints with inputs and outputs, written by tests/golden/make_*.py."""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden"


def golden_arrays(name):
    """The arrays of a golden `.npz`."""
    with np.load(GOLDEN / name) as archive:
        return {key: archive[key] for key in archive.files}


def facts_of(checkpoint, layer):
    """The requirements of one layer, attribute → value."""
    graph = {"inputs", "operation"}  # what feeds the layer, for matching by structure
    needs = [need for need in checkpoint.requirements if need.layer == layer and need.attribute not in graph]
    return {need.attribute: need.value for need in needs}
