"""Names pair layers; facts decide axes; what is only suspected is told."""

import numpy as np
import pytest
from torch import nn

from regraft.arrays import ArrayInfo
from regraft.plans.describing import describe_model
from regraft.plans.match_by_name import pair_by_names, suspected_flattening
from regraft.plans.sources import Sources


def sources(shapes, *, layout="tensorflow", facts=None):
    infos = {name: ArrayInfo(shape, "float32") for name, shape in shapes.items()}
    return Sources({name: (name,) for name in infos}, infos, layout, facts or {})


def layers_of(**modules):
    return describe_model(nn.ModuleDict(modules))


@pytest.mark.parametrize(
    ("modules", "suspects"),
    [
        ({"conv": nn.Conv2d(3, 4, 1), "fc": nn.Linear(24, 5)}, {"fc": 4}),
        ({"conv": nn.Conv2d(3, 4, 1), "fc": nn.Linear(4, 5)}, {}),
        ({"conv": nn.Conv2d(3, 1, 1), "fc": nn.Linear(24, 5)}, {}),
        ({"conv": nn.Conv2d(3, 4, 1), "fc": nn.Linear(24, 24), "out": nn.Linear(24, 5)}, {"fc": 4}),
        ({"conv": nn.Conv2d(3, 4, 1), "mean": nn.Linear(24, 5), "spread": nn.Linear(24, 5)}, {"mean": 4, "spread": 4}),
        ({"conv": nn.Conv2d(3, 4, 1), "squeeze": nn.Linear(4, 2), "fc": nn.Linear(24, 5)}, {}),
    ],
)
def test_a_dense_layer_behind_several_places_of_a_map_is_suspected(modules, suspects):
    assert suspected_flattening(layers_of(**modules)) == suspects


def test_a_bias_that_the_source_is_told_not_to_have_is_zero():
    facts = {"fc/kernel": {"use_bias": False}}

    told = pair_by_names(layers_of(fc=nn.Linear(3, 5)), sources({"fc/kernel": (3, 5)}, facts=facts)).of
    untold = pair_by_names(layers_of(fc=nn.Linear(3, 5)), sources({"fc/kernel": (3, 5)})).of

    assert str(told["fc.bias"].operations[0]) == "filled with 0"
    assert "fc.bias" not in untold


def test_a_second_bias_is_zero_only_when_every_array_of_the_cell_is_understood():
    shapes = {"lstm/kernel": (3, 20), "lstm/recurrent_kernel": (5, 20), "lstm/bias": (20,)}

    whole = pair_by_names(layers_of(lstm=nn.LSTM(3, 5)), sources(shapes)).of
    strange = pair_by_names(layers_of(lstm=nn.LSTM(3, 5)), sources({**shapes, "lstm/peephole": (5,)})).of

    assert np.array_equal(whole["lstm.bias_hh_l0"].operations[0].to, (20,))
    assert "lstm.bias_hh_l0" not in strange


def test_gates_in_an_order_that_nobody_knows_are_refused():
    shapes = {"lstm/kernel": (3, 20), "lstm/recurrent_kernel": (5, 20)}
    facts = {name: {"gate_order": "cofi"} for name in shapes}

    pairing = pair_by_names(layers_of(lstm=nn.LSTM(3, 5, bias=False)), sources(shapes, facts=facts)).of[
        "lstm.weight_ih_l0"
    ]

    assert pairing.problem == "shape_mismatch"
    assert "gates in the order 'cofi' are not known" in pairing.note
