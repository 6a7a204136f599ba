"""The networks of the golden graphs and what TensorFlow computed for them (tests/golden/make_graphs.py)."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from tests.built import build_network

from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint

GOLDEN = Path(__file__).parent / "golden"


@cache
def golden():
    """Name of an operation → TensorFlow's result; "x" is the input."""
    with np.load(GOLDEN / "graph_operations.npz") as file:
        return {name: file[name] for name in file.files}


@cache
def results(name):
    """Name of an operation → the result of the network that was built from the file."""
    checkpoint = open_checkpoint(GOLDEN / name)
    network = network_of(checkpoint)
    assert not network.untranslated
    built = build_network(checkpoint)
    x = torch.from_numpy(golden()["x"])
    is_turned = any("channels last" in note for note in built.notes)
    with torch.no_grad():
        given = built.model(x.permute(0, 3, 1, 2) if is_turned else x)
    every = [word for word in golden() if word not in ("x", "lite_names")]
    words = [str(word) for word in golden()["lite_names"]] if name.endswith("tflite") else every
    return {word: value.numpy() for word, value in zip(words, given, strict=True)}


def check(file, name):
    """Compare one operation; a map that the module gives channels-first is turned back.

    The tolerance is relative to the largest number: sums are taken in another order.
    """
    result, wanted = results(file)[name], golden()[name]
    if result.shape != wanted.shape and result.ndim == 4:
        result = result.transpose(0, 2, 3, 1)
    assert result.shape == wanted.shape
    np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5 * max(np.abs(wanted).max(), 1e-3))
