"""Steps between layers have one form, equal where the functions are."""

import pytest

from regraft.plans.steps import Activation, Pool, Step, Unknown, activation, function_of_text, merged, steps_of_facts

POOLS = [
    (Pool("max", (3, 3), (2, 2), "same"), "max 3x3, stride 2x2, padding same"),
    (Pool("max", (3, 3), (1, 1), "same"), "max 3x3, stride 1x1, padding 1x1"),
    (Pool("average", (2, 2), (1, 1), "same"), "average 2x2, stride 1x1, padding 0-1x0-1"),
    (Pool("average", (3,), (2,), ((1, 1),), zeros=True), "average 3, stride 2, padding 1 of zeros"),
    (Pool("average", (2, 2), (2, 2), ((0, 0), (0, 0)), zeros=True), "average 2x2, stride 2x2"),
    (Pool("max", (3, 3), (2, 2), ceil=True), "max 3x3, stride 2x2, rounded up"),
    (Pool("max", (1, 1), (2, 2), "same"), "max 1x1, stride 2x2"),
]


@pytest.mark.parametrize(("pool", "text"), POOLS)
def test_a_pooling_has_one_text_and_is_read_back_from_it(pool, text):
    assert str(pool) == text
    assert function_of_text(text) == pool


def test_another_text_is_no_step():
    assert function_of_text("(2, 2)") is None


@pytest.mark.parametrize(
    ("word", "function"),
    [
        ("swish", Activation("silu")),
        ("LeakyRelu(0.2)", Activation("leaky_relu(0.2)")),
        ("linear", None),
        ("my_own", Unknown("my_own")),
    ],
)
def test_activations_have_one_name(word, function):
    assert activation(word) == function


@pytest.mark.parametrize(("below", "text"), [("relu", "padding 1x1"), ("tanh", "padding 1x1 of zeros")])
def test_zeros_around_a_map_without_negatives_are_as_good_as_nothing(below, text):
    """A maximum does not see them; behind tanh it would."""
    pad = steps_of_facts("ZeroPadding2D", {"pad": [[1, 1], [1, 1]]})
    pool = steps_of_facts("MaxPooling2D", {"pool": "max", "pool_size": [3, 3], "strides": [2, 2], "padding": "valid"})

    (found, _) = merged((*pool, *pad, Step(Activation(below))))

    assert str(found.function) == f"max 3x3, stride 2x2, {text}"


def test_what_changes_no_value_is_no_step_and_what_is_not_known_is_one():
    assert steps_of_facts("Dropout", {}) == steps_of_facts("GlobalAveragePooling2D", {}) == ()
    assert steps_of_facts("Lambda", {})[0].function == Unknown("Lambda")
