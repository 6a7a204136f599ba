"""Each array of the model gets one row, and each array of the checkpoint is used or listed."""

import pytest
import torch
from torch import nn

from regraft.arrays import ArrayInfo
from regraft.plans.describing import describe_model
from regraft.plans.match_by_name import Pairing
from regraft.plans.target_rows import Choices, source_rows, target_rows

ALL = Choices(reuse=None, fresh=frozenset(), methods={})


def infos(**shapes):
    return {name: ArrayInfo(shape, "float32") for name, shape in shapes.items()}


def test_a_source_that_two_layers_take_is_a_problem_of_both():
    layers = describe_model(nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)}))
    pairings = {"a.weight": Pairing(("w",)), "b.weight": Pairing(("w",))}

    rows = target_rows(layers, pairings, infos(w=(2, 2)), ALL)

    assert [row.status for row in rows] == ["ambiguous", "ambiguous"]


def test_a_way_settles_only_the_question_that_it_answers():
    """The order of a flattened map is no answer to the order of axes."""
    layers = describe_model(nn.ModuleDict({"a": nn.Linear(4, 2, bias=False)}))
    pairing = Pairing(("w",), problem="undecidable_orientation", answers=("as stored", "transposed"))

    def status(way):
        choices = Choices(None, frozenset(), {"a.weight": way})
        return target_rows(layers, {"a.weight": pairing}, infos(w=(2, 4)), choices)[0].status

    assert status("flatten 2x1x2") == "undecidable_orientation"
    assert status("as stored") == "adapted"


def test_an_empty_array_is_zero_3_s():
    layers = describe_model(nn.ModuleDict({"a": nn.Linear(4, 2, bias=False)}))

    (row,) = target_rows(layers, {"a.weight": Pairing(("w",))}, infos(w=(0,)), ALL)

    assert "zero_to_fp32.py" in row.note


def test_an_array_of_a_module_with_layers_is_left_out_alone():
    """fresh=["visual"] would leave out the whole tower."""

    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj, self.layer = nn.Parameter(torch.zeros(3, 4)), nn.Linear(2, 2)

    layers = describe_model(nn.ModuleDict({"visual": Tower()}))

    row = target_rows(layers, {"visual.proj": Pairing(("w",))}, infos(w=(3, 5)), ALL)[0]

    assert row.advice[0].value == ["visual.proj"]


@pytest.mark.parametrize(("dtype", "scale", "told"), [
    ("int8", "w_scale", "int8 numbers, and w_scale scales them"),
    ("uint8", "other", "uint8 numbers, and the file does not record"),
    ("bool", "other", "bool numbers, and the file does not record"),
    ("complex64", "other", "complex64 numbers, whose imaginary parts a cast would drop"),
    ("float8_e4m3fn", "w_scale_inv", "float8_e4m3fn numbers, and w_scale_inv scales them"),
])  # fmt: skip
def test_codes_of_a_quantised_model_are_not_taken_for_weights(dtype, scale, told):
    """A cast would load them without a word; the user may ask for it."""
    layers = describe_model(nn.ModuleDict({"a": nn.Linear(2, 2, bias=False)}))
    arrays = infos(**{scale: ()}) | {"w": ArrayInfo((2, 2), dtype)}

    row = target_rows(layers, {"a.weight": Pairing(("w",))}, arrays, ALL)[0]
    asked = target_rows(
        layers, {"a.weight": Pairing(("w",))}, arrays, Choices(None, frozenset(), {"a.weight": "as stored"})
    )[0]

    assert row.is_problem
    assert told in row.note
    assert not asked.is_problem


def test_plain_float8_weights_and_integers_for_integers_are_taken():
    """float8 without scales is what it is, and a counter counts."""
    layers = describe_model(nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.BatchNorm1d(2, affine=False)}))
    pairings = {"a.weight": Pairing(("w",)), "b.num_batches_tracked": Pairing(("n",))}
    arrays = {"w": ArrayInfo((2, 2), "float8_e4m3fn"), "n": ArrayInfo((), "int32")}

    rows = {row.target: row.status for row in target_rows(layers, pairings, arrays, ALL)}

    assert (rows["a.weight"], rows["b.num_batches_tracked"]) == ("cast", "cast")


def test_arrays_that_fill_nothing_are_told_by_their_role():
    arrays = infos(w=(2,), spare=(2,)) | {"slot": ArrayInfo((2,), "float32", "optimizer_slot")}

    rows = source_rows(arrays, ["w", "spare"], [], {"a.weight": Pairing(("w",))})

    assert {row.name: row.status for row in rows} == {"w": "excluded", "spare": "unused", "slot": "optimizer_slot"}


def test_a_candidate_of_an_open_layer_may_fill_another():
    """What is only one of several possibilities is not used yet."""
    layers = describe_model(nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)}))
    pairings = {"a.weight": Pairing(("w",)), "b.weight": Pairing(("w", "v"), problem="ambiguous")}

    rows = target_rows(layers, pairings, infos(w=(2, 2), v=(2, 2)), ALL)

    assert [row.status for row in rows] == ["renamed", "ambiguous"]
