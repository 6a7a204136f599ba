"""The operations of Core ML's programs, on the golden packages that coremltools wrote."""

from pathlib import Path

import pytest

from regraft.reading import open_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


def facts_of(name):
    facts = {}
    for fact in open_checkpoint(GOLDEN / name).requirements:
        facts.setdefault(fact.layer, {})[fact.attribute] = fact.value
    return facts


@pytest.mark.parametrize("name", ["coreml.mlpackage", "coreml_half.mlpackage", "coreml_int8.mlpackage"])
def test_layers_have_the_names_of_their_arrays(name):
    """Whatever the operation is called, and whatever coremltools adds to names when it changes a type."""
    layers = {info.layer for info in open_checkpoint(GOLDEN / name).values()}

    assert layers == {"conv1", "bn1", "up", "block_0_fc"}


def test_a_cast_of_the_same_name_as_a_layer_is_a_layer_of_its_own():
    facts = facts_of("coreml_half.mlpackage")

    assert all(layer not in known["inputs"] for layer, known in facts.items())
    assert sum(known["operation"] == "Cast" for known in facts.values()) == 2


def test_operations_without_arrays_are_known_by_the_words_of_the_plan():
    facts = facts_of("coreml.mlpackage")

    assert facts["b"] == {"inputs": ["conv1"], "operation": "Activation", "activation": "relu"}
    assert facts["up"]["operation"] == "ConvTranspose"
    assert facts["f"]["operation"] == "ReduceMean"


@pytest.mark.parametrize(
    ("name", "note"),
    [("coreml_int8.mlpackage", "dequantised from int8"), ("coreml_table.mlpackage", "from a table of 16 values")],
)
def test_compressed_arrays_say_so(name, note):
    infos = open_checkpoint(GOLDEN / name)

    assert {name for name, info in infos.items() if info.note == note} == {
        "conv1/weight",
        "up/weight",
        "block_0_fc/weight",
    }
