"""Layers are paired by their surroundings, and what is alike from every side stays ambiguous."""

import pytest

from regraft.plans.graphs import LayerNode, bare, combined, joined, match_graphs, unstepped
from regraft.plans.steps import UNKNOWN, Activation, Affine, Named, Step

CONV, NORM = ("conv", (8, 8, 3, 3)), ("batch_norm", 8)


def renamed(graph, names):
    """The same network under other names, in another order."""

    def other(expression):
        if isinstance(expression, str):
            return names.get(expression, expression)
        return (expression[0], *map(other, expression[1:]))

    return {names[name]: LayerNode(node.signature, other(node.inputs)) for name, node in reversed(graph.items())}


RESIDUAL = {
    "stem": LayerNode(CONV, ""),
    "first": LayerNode(CONV, "stem"),
    "second": LayerNode(CONV, "first"),
    "shortcut": LayerNode(CONV, "stem"),
    "next": LayerNode(CONV, ("add", "second", "shortcut")),
}


def test_a_shortcut_of_equal_shape_is_told_by_its_input_wherever_it_stands():
    """Keras lists the shortcut before the last convolution, torch after it: order would swap them in silence."""
    names = {"stem": "a", "first": "d", "second": "c", "shortcut": "b", "next": "e"}

    matches = match_graphs(RESIDUAL, renamed(RESIDUAL, names))

    assert dict(matches.pairs) == names
    assert not matches.ambiguous


def test_parallel_branches_are_told_by_their_place_in_the_concatenation():
    branches = {name: LayerNode(CONV, "") for name in ("left", "right")} | {
        "out": LayerNode(CONV, ("cat", "left", "right"))
    }

    matches = match_graphs(branches, renamed(branches, {"left": "x", "right": "y", "out": "z"}))

    assert dict(matches.pairs) == {"left": "x", "right": "y", "out": "z"}


def test_branches_that_nothing_tells_apart_are_ambiguous():
    branches = {name: LayerNode(CONV, "") for name in ("left", "right")} | {
        "out": LayerNode(CONV, ("add", "left", "right"))
    }

    matches = match_graphs(branches, renamed(branches, {"left": "x", "right": "y", "out": "z"}))

    assert dict(matches.pairs) == {"out": "z"} or not matches.pairs
    assert {name: set(others) for name, others in matches.ambiguous.items() if name != "out"} == {
        "left": {"x", "y"},
        "right": {"x", "y"},
    }


def test_another_head_leaves_the_trunk_paired():
    theirs = renamed(RESIDUAL, {"stem": "a", "first": "b", "second": "c", "shortcut": "d", "next": "e"})
    ours = RESIDUAL | {"next": LayerNode(("dense", (5, 8)), ("add", "second", "shortcut"))}

    matches = match_graphs(ours, theirs)

    assert dict(matches.pairs) == {"stem": "a", "first": "b", "second": "c", "shortcut": "d"}


def test_a_layer_of_another_shape_ends_the_pairing_behind_it():
    """What comes after another ancestry may be another thing: it is not paired because its shape fits."""
    theirs = {"a": LayerNode(CONV, ""), "b": LayerNode(CONV, "a"), "c": LayerNode(NORM, "b")}
    ours = {"x": LayerNode(CONV, ""), "y": LayerNode(("conv", (8, 8, 5, 5)), "x"), "z": LayerNode(NORM, "y")}

    assert dict(match_graphs(ours, theirs).pairs) == {"x": "a"}


@pytest.mark.parametrize(
    ("word", "parts", "expected"),
    [
        ("relu", ["a"], "a"),
        ("mul", ["a", "a"], (Step(Named("power 2")), "a")),
        ("add", ["a", "a"], (Step(Affine(2.0)), "a")),
        ("max", ["a", "a"], "a"),
        ("cat", [("cat", "a", "b"), "a"], ("cat", ("cat", "a", "b"), "a")),
        ("matmul", ["a", "b"], ("matmul", "a", "b")),
        ("relu", [], ""),
    ],
)
def test_operations_are_written_in_one_form(word, parts, expected):
    assert combined(word, parts) == expected


RELU, SIGMOID = Step(Activation("relu")), Step(Activation("sigmoid"))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((RELU, "a"), "a"),
        (("add", (RELU, ("add", "a", "b")), "c"), ("add", "a", "b", "c")),
        (("mul", ("mul", "a", "b"), "c"), ("mul", ("mul", "a", "b"), "c")),
    ],
)
def test_pairing_sees_no_steps_and_no_brackets_in_sums(expression, expected):
    assert bare(expression) == expected


@pytest.mark.parametrize(
    ("word", "parts", "step"),
    [
        ("mul", ["a", (SIGMOID, "a")], Step(Activation("silu"))),
        ("mul", [(SIGMOID, (RELU, "a")), (RELU, "a")], Step(Activation("silu"))),
        ("mul", ["a", (RELU, "a")], UNKNOWN),
        ("add", ["a", (SIGMOID, "a")], UNKNOWN),
    ],
)
def test_a_value_times_its_own_gate_is_an_activation(word, parts, step):
    """Exporters write activations so that their format has not; anything else of one value is not compared."""
    assert unstepped(combined(word, parts))[0][0] == step


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((RELU, ("Subtract", "a", (RELU, "b"))), ("sub", "a", "b")),
        (("truediv", "a", "b"), ("div", "a", "b")),
        (("cat", ("cat", "a", "b"), "c"), ("cat", "a", "b", "c")),
        (("add", ("matmul", "a", "b"), "c"), None),
        ("a", "a"),
    ],
)
def test_operations_that_are_the_same_everywhere_keep_their_word(expression, expected):
    """Others may be cut into other pieces by a framework, and prove nothing."""
    assert joined(expression) == expected
