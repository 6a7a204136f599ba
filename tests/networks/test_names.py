"""Names that torch and Python take."""

import pytest
from torch import nn

from regraft.networks.names import Paths, Variables, children_of, expression, module_path, tensor_path, variable_name


def test_what_python_cannot_take_is_replaced():
    """And what a module already has."""
    assert module_path("train/forward") == "train_.forward_"
    assert module_path("__class__") == "n__class__"
    assert variable_name("2d:0") == "x_2d_0"
    assert tensor_path("layers.0") == "layers.array_0"


def test_no_two_layers_have_one_path():
    """Names that differ only in what torch cannot take."""
    paths = Paths()

    assert [paths.path(layer) for layer in ("a-b", "a_b", "a-b")] == ["a_b", "a_b_2", "a_b"]


def test_numbered_modules_are_items_of_lists():
    """As in networks of torch."""
    assert children_of(["layer1.0.conv", "layer1.1.conv"])["layer1"] == ["0", "1"]
    assert expression("layer1.1.conv", ["layer1"]) == "self.layer1[1].conv"


def test_a_variable_is_free_when_its_value_is_used_up():
    """x is taken again."""
    variables = Variables()

    assert [variables.take("a"), variables.take("b")] == ["x", "y"]
    variables.release("a")
    assert variables.take("c") == "x"


@pytest.mark.parametrize("name", ["\uff3f\uff3fclass\uff3f\uff3f", "\uff46orward", "__class__", "training", "forward"])
def test_a_layer_replaces_nothing_of_its_module(name):
    """Python reads full-width letters as plain ones."""
    assert not hasattr(nn.Module(), module_path(name))
    assert module_path(name).isascii()


@pytest.mark.parametrize("name", ["device", "tuple", "take", "self", "torch", "\uff53elf", "2x", "", "\u00b2"])
def test_a_variable_hides_nothing_that_the_code_uses(name):
    """Helpers, built-in functions, torch."""
    variable = variable_name(name)
    assert variable.isidentifier()
    assert variable not in {"device", "tuple", "take", "self", "torch"}
