"""Arrays without a source: a prefix that hides them is found, and named as a rule."""

import pytest
from torch import nn

from regraft.arrays import ArrayInfo
from regraft.plans.absence import absence_of
from regraft.plans.describing import describe_model
from regraft.plans.sources import Sources

LAYERS = describe_model(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}))


def sources(*names):
    return Sources({name: (name,) for name in names}, {name: ArrayInfo((2, 2), "float32") for name in names}, "torch")


@pytest.mark.parametrize(
    ("names", "argument"),
    [
        (["net.x.a.weight", "net.x.b.weight", "c"], "rename"),
        (["one.weight", "two.weight"], "match"),
        (["x.a.weight", "one.weight", "two.weight"], "match"),
    ],
)
def test_most_names_decide_what_is_advised(names, argument):
    absence = absence_of(LAYERS, sources(*names), by_names=True)

    assert [advice.argument for advice in absence.advice] == [argument]


@pytest.mark.parametrize("prefix", ["backbone.", "model.encoder."])
def test_a_prefix_of_the_model_is_put_before_the_names(prefix):
    layers = describe_model(nested(prefix, {"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}))

    (advice,) = absence_of(layers, sources("a.weight", "a.bias", "b.weight", "b.bias"), by_names=True).advice

    assert advice.value == {"(.*)": rf"{prefix}\1"}


def nested(prefix, layers):
    module = nn.ModuleDict(layers)
    for name in reversed(prefix.rstrip(".").split(".")):
        module = nn.ModuleDict({name: module})
    return module


def test_two_networks_in_one_file_are_both_named():
    """Student and teacher: the user takes one."""
    names = [
        f"{side}.net.{layer}.{leaf}" for side in ("student", "teacher") for layer in "ab" for leaf in ("weight", "x")
    ]

    advice = absence_of(LAYERS, sources(*names), by_names=True).advice

    assert [one.value for one in advice] == [{r"student\.net\.(.*)": r"\1"}, {r"teacher\.net\.(.*)": r"\1"}]


def test_where_few_names_are_missing_rename_rules_are_named():
    assert not absence_of(LAYERS, sources("one.weight"), by_names=False).advice
