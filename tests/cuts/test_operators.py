"""What torch tells of its operators."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from regraft.cuts.operators import (
    bound_arguments,
    flops_of,
    function_name,
    is_cheap,
    is_random,
    needs_data,
    normalises_by_batch,
    reads_only_shape,
    written_arguments,
)

aten = torch.ops.aten


def test_a_dropout_of_zero_is_not_random():
    """Attention without dropout can be cached."""
    x = torch.zeros(1, 1, 2, 2)
    assert is_random(aten.bernoulli_.float, (x, 0.5), {})
    assert not is_random(aten.add.Tensor, (x, x), {})
    assert not is_random(aten.scaled_dot_product_attention.default, (x, x, x), {"dropout_p": 0.0})


def test_in_place_operators_tell_what_they_write():
    """Only the declared arguments."""
    x, y = torch.zeros(2), torch.ones(2)
    assert [t is x for t in written_arguments(aten.add_.Tensor, (x, y), {})] == [True]
    assert written_arguments(aten.add.Tensor, (x, y), {}) == []


@pytest.mark.parametrize(("training", "answer"), [(True, True), (False, False)])
def test_batch_normalisation_mixes_the_batch_in_training_only(training, answer):
    """By its own argument."""
    x, w = torch.zeros(2, 3), torch.ones(3)
    args = (x, w, w, w, w, training, 0.1, 1e-5)
    assert normalises_by_batch(aten.native_batch_norm.default, args, {}) is answer


def test_what_a_mask_selects_has_a_size_that_depends_on_data():
    """Writing by a mask does not."""
    x, mask = torch.zeros(2), torch.tensor([True, False])
    assert needs_data(aten.index.Tensor, (x, [mask]), {})
    assert not needs_data(aten.index.Tensor, (x, [torch.tensor([0])]), {})
    assert not needs_data(aten.index_put_.default, (x, [mask], x[:1]), {})
    assert needs_data(aten._local_scalar_dense.default, (x[0],), {})


def test_products_and_convolutions_cost_and_views_do_not():
    """By torch's tags and formulas."""
    x = torch.zeros(2, 3)
    assert not is_cheap(aten.mm.default)
    assert is_cheap(aten.relu.default)
    assert is_cheap(aten.view.default)
    assert flops_of(aten.mm.default, (x, x.T), {}, x @ x.T) == 2 * 2 * 3 * 2


def test_names_are_what_the_user_wrote():
    """A property is called by its own name; defaults are bound."""
    assert function_name(torch.Tensor.shape.__get__) == "shape"
    assert reads_only_shape(aten.zeros_like.default)
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(bound_arguments(func, args, kwargs or {}))
            return func(*args, **(kwargs or {}))

    with Watch():
        torch.zeros(2).sum(0)
    assert seen[-1]["keepdim"] is False
