"""Arrays find their layers by names."""

import json
from pathlib import Path

from regraft.arrays import ArrayInfo
from regraft.formats.keras_config import read_config
from regraft.formats.keras_owners import with_keras_layers


def layer(name, kind="Dense", inner=None):
    return {"class_name": kind, "config": {"name": name} | ({"layers": inner} if inner else {})}


MODEL = read_config(
    json.dumps(layer("net", "Sequential", [
        layer("a"), layer("block", "Sequential", [layer("b"), layer("same")]), layer("same"),
    ])), Path("m")
)  # fmt: skip


def owners(*names):
    infos = with_keras_layers({name: ArrayInfo((1,), "float32") for name in names}, MODEL)
    return [(info.layer, info.leaf) for info in infos.values()]


def test_by_path_by_unique_name_and_not_at_all():
    """The deepest part that names a layer counts."""
    assert owners("a/kernel", "block/b/kernel", "b/kernel", "a/lstm_cell/kernel", "unknown/kernel") == [
        ("a", "kernel"), ("block/b", "kernel"), ("block/b", "kernel"), ("a", "lstm_cell/kernel"), ("", ""),
    ]  # fmt: skip


def test_a_name_of_two_layers_counts_only_as_a_path():
    """Which of them is meant is not guessed."""
    assert owners("same/kernel", "block/same/kernel", "other/same/kernel") == [
        ("same", "kernel"), ("block/same", "kernel"), ("", ""),
    ]  # fmt: skip
