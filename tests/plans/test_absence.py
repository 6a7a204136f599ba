"""Arrays without a source: a prefix that hides them is found, and named as a rule."""

import pytest
from torch import nn

from regraft.arrays import ArrayInfo
from regraft.plans.absence import absence_of
from regraft.plans.describing import describe_model
from regraft.plans.sources import Sources

LAYERS = describe_model(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}))


def sources(*names):
    return Sources({name: name for name in names}, {name: ArrayInfo((2, 2), "float32") for name in names}, "torch")


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


def test_where_few_names_are_missing_rename_rules_are_named():
    assert not absence_of(LAYERS, sources("one.weight"), by_names=False).advice
