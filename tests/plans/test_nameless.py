"""A list of arrays without names fills a model in its order, once the layout is known; equal sides are asked for."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from in_memory import checkpoint_of
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plans.describing import describe_model
from regraft.plans.nameless import are_nameless, named_by_order
from regraft.plans.sources import gather_sources


def mlp(*sizes):
    layers = [nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))


def theano_list(model):
    """[W, b, W, b, …] with W as (in, out), and convolutions that are flipped."""
    arrays = []
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if name.endswith("weight"):
            values = values.T if values.ndim == 2 else values[:, :, ::-1, ::-1]
        arrays.append(values)
    return arrays


def numbered(arrays, name="arr_{}"):
    return {name.format(index): array for index, array in enumerate(arrays)}


def filled(model, arrays, **wishes):
    checkpoint = checkpoint_of(arrays)
    apply_plan(plan_reuse(checkpoint, model, **wishes), checkpoint, model)
    return model


@pytest.mark.parametrize("name", ["arr_{}", "{}", "param_{}"])
def test_a_list_of_theano_fills_the_layers_in_order(name):
    """Twelve arrays, so that arr_10 must come after arr_9; the square kernels follow the others."""
    source, x = mlp(5, 4, 4, 4, 4, 4, 3), torch.randn(2, 5)

    model = filled(
        mlp(5, 4, 4, 4, 4, 4, 3), dict(reversed(numbered(theano_list(source), name).items())), layout="theano"
    )

    assert torch.equal(model(x), source(x))


def test_lists_of_layers_and_lettered_names_are_ordered_alike():
    source, x = mlp(5, 4, 3), torch.randn(2, 5)
    arrays = theano_list(source)

    nested = filled(mlp(5, 4, 3), dict(zip(["0.0", "0.1", "1.0", "1.1"], arrays, strict=True)), layout="theano")
    lettered = filled(mlp(5, 4, 3), dict(zip(["W1", "b1", "W2", "b2"], arrays, strict=True)), layout="theano")

    assert torch.equal(nested(x), source(x))
    assert torch.equal(lettered(x), source(x))


def test_flipped_convolutions_of_theano_are_turned():
    def net():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 4, 2))

    source, x = net(), torch.randn(2, 1, 4, 4)

    assert torch.equal(filled(net(), numbered(theano_list(source)), layout="theano")(x), source(x))


def test_without_a_layout_it_is_asked_for():
    plan = plan_reuse(checkpoint_of(numbered(theano_list(mlp(5, 4, 3)))), mlp(5, 4, 3))

    assert {row.status for row in plan.problems} == {"missing"}
    assert "4 arrays with numbers for names, the model 4. They are matched in order once" in plan.problems[0].note
    assert {str(item.value) for item in plan.problems[0].advice} >= {"theano", "tensorflow", "torch"}


def test_where_all_kernels_are_square_each_is_asked_for():
    """Nothing shows that it is not transposed, nor that the last layer does not come first."""
    source, x = mlp(4, 4, 4), torch.randn(2, 4)
    arrays = numbered(theano_list(source))

    plan = plan_reuse(checkpoint_of(arrays), mlp(4, 4, 4), layout="theano")

    assert [(row.name, row.status) for row in plan.problems] == [
        ("0.weight", "undecidable_orientation"),
        ("2.weight", "undecidable_orientation"),
    ]
    answered = filled(mlp(4, 4, 4), arrays, layout="theano", adapt={r"\d\.weight": "as stored"})
    assert torch.equal(answered(x), source(x))


def test_a_list_from_the_last_layer_to_the_first_does_not_fit():
    """As Theano's tutorials collect them."""
    arrays = theano_list(mlp(5, 4, 3))

    plan = plan_reuse(checkpoint_of(numbered([*arrays[2:], *arrays[:2]])), mlp(5, 4, 3), layout="theano")

    assert {row.status for row in plan.problems} == {"shape_mismatch"}


def test_the_layers_without_a_source_are_named_fresh():
    arrays = numbered(theano_list(mlp(5, 4)))

    plan = plan_reuse(checkpoint_of(arrays), mlp(5, 4, 3), layout="theano", fresh=["2"])
    asked = plan_reuse(checkpoint_of(arrays), mlp(5, 4, 3), layout="theano")

    assert not plan.problems
    assert "2 arrays with numbers for names, the model 4" in asked.problems[0].note


def test_norms_are_ordered_where_the_layout_has_an_order():
    """Keras' get_weights gives scale, shift, mean and variance; Lasagne's order is another, with 1/σ."""
    source = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    nn.init.normal_(source[1].weight)
    source[1].running_mean.normal_()
    arrays = {name: tensor.numpy() for name, tensor in source.state_dict().items() if tensor.ndim}
    arrays = numbered([arrays["0.weight"].T, *list(arrays.values())[1:]])

    model = filled(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval(), arrays, layout="keras")
    of_theano = plan_reuse(checkpoint_of(arrays), source, layout="theano")

    assert torch.equal(model(torch.ones(1, 3)), source(torch.ones(1, 3)))
    assert {row.status for row in of_theano.problems} == {"missing"}


@pytest.mark.parametrize("counters", [True, False])
def test_a_list_of_torch_may_lack_counters_or_buffers(counters):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    tensors = list(model.state_dict().values()) if counters else list(model.parameters())
    sources = gather_sources(checkpoint_of(numbered([tensor.detach().numpy() for tensor in tensors])), layout="torch")

    named = named_by_order(sources, describe_model(model), ())

    names = list(model.state_dict()) if counters else [name for name, _ in model.named_parameters()]
    assert [name for names in named.names.values() for name in names] == names


def test_an_array_with_a_name_is_matched_by_it():
    sources = gather_sources(checkpoint_of({"0": np.zeros(2), "fc.weight": np.zeros((2, 2))}), layout="torch")

    assert not are_nameless(sources)


def test_names_joined_by_two_underscores_are_names_of_layers():
    model = nn.ModuleDict({"hidden1": nn.Linear(3, 2)})
    arrays = {"hidden1__kernel": np.ones((3, 2), np.float32), "hidden1__bias": np.ones(2, np.float32)}

    assert not plan_reuse(checkpoint_of(arrays), model, layout="keras").problems
