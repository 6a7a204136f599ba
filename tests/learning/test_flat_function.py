import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.learning.flat_function import flatten
from regraft.learning.operator_recording import NotFlatError, record


def flat_of(function, *inputs, changing=()):
    return flatten(record(function, *inputs), list(changing))


def test_a_function_is_run_again_with_other_values():
    weight = torch.randn(3, 4)
    flat = flat_of(lambda x: [torch.relu(x @ weight.t()).sum(0)], torch.randn(5, 4), changing=[weight])
    x = torch.randn(5, 4)
    assert torch.equal(flat.call(x)[0], torch.relu(x @ weight.t()).sum(0))


def test_a_changing_tensor_is_read_anew_and_a_constant_one_is_not_copied():
    weight = torch.ones(4)
    flat = flat_of(lambda x: [x * weight], torch.ones(4), changing=[weight])
    with torch.no_grad():
        weight.mul_(3)
    assert torch.equal(flat.call(torch.ones(4))[0], torch.full((4,), 3.0))


def test_what_depends_on_constants_only_is_computed_once():
    def function(x):
        return [x + torch.arange(4).mul(2).float()]

    flat = flat_of(function, torch.zeros(4))
    assert flat.operators == 1
    assert torch.equal(flat.call(torch.ones(4))[0], torch.tensor([1.0, 3.0, 5.0, 7.0]))


def test_what_is_written_to_is_made_anew_each_time():
    def function(x):
        total = torch.zeros(4)
        total.add_(x)
        return [total * 1]

    flat = flat_of(function, torch.ones(4))
    assert torch.equal(flat.call(torch.ones(4))[0], torch.ones(4))
    assert torch.equal(flat.call(torch.ones(4))[0], torch.ones(4))


def test_writing_through_a_view_reaches_the_whole():
    def function(x):
        total = x * 1
        total[1:].zero_()
        return [total + 0]

    flat = flat_of(function, torch.ones(3))
    assert torch.equal(flat.call(torch.full((3,), 2.0))[0], torch.tensor([2.0, 0.0, 0.0]))


def test_forward_and_backward_of_a_convolution_are_one_list():
    """Operators that cannot write into given memory get variables."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Linear(16, 3))  # fmt: skip
    parameters = list(model.parameters())

    def function(x, y):
        loss = F.cross_entropy(model(x), y)
        return [loss, *torch.autograd.grad(loss, parameters)]

    before = model.state_dict()["1.running_mean"].clone()
    x, y = torch.randn(6, 2, 4, 4), torch.randint(0, 3, (6,))
    flat = flat_of(function, x, y, changing=[*parameters, *model.buffers()])
    model[1].running_mean.copy_(before)
    x = torch.randn(6, 2, 4, 4)
    got = [tensor.clone() for tensor in flat.call(x, y)]
    moved = model[1].running_mean.clone()
    model[1].running_mean.copy_(before)
    expected = function(x, y)
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
    assert torch.equal(moved, model[1].running_mean)


def test_random_draws_go_on_in_each_run():
    flat = flat_of(lambda x: [F.dropout(x, 0.5)], torch.ones(50))
    torch.manual_seed(3)
    got = [flat.call(torch.ones(50))[0].clone() for _ in range(2)]
    torch.manual_seed(3)
    expected = [F.dropout(torch.ones(50), 0.5) for _ in range(2)]
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])
    assert not torch.equal(got[0], got[1])


def test_the_list_can_be_read():
    weight, bias = torch.randn(3, 4), torch.randn(3)
    flat = flat_of(lambda x: [F.linear(x, weight, bias)], torch.randn(2, 4))
    assert "addmm(" in flat.text
    assert "out=" in flat.text
    assert flat.text.startswith("def flat(t0):")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: [x * x.sum().item()], "looks at values"),
        (lambda x: [x[x > 0]], "looks at values"),
        (lambda x: [x.to_sparse().to_dense()], "layout|looks at values"),
    ],
)
def test_what_cannot_be_flat_is_refused_with_its_reason(function, told):
    with pytest.raises(NotFlatError, match=told):
        flat_of(function, torch.randn(4))


def test_a_view_that_takes_its_own_place_is_read_before_it_is_named():
    """`detach` of a value that has a variable; later variables get names of their own."""

    def function(x):
        cast = x.to(torch.bfloat16).detach()
        other = (x + 1).to(torch.bfloat16).detach()
        return [(cast * other).float()]

    flat, x = flat_of(function, torch.ones(3)), torch.arange(3.0)
    assert torch.equal(flat.call(x)[0], function(x)[0])


def test_rows_taken_by_number_are_flat_and_those_by_a_mask_are_not():
    """A mask's values decide how many there are."""
    flat = flat_of(lambda x, rows: [x[rows] * 1], torch.ones(3), torch.tensor([0, 1]))
    assert flat.call(torch.arange(3.0), torch.tensor([2, 0]))[0].tolist() == [2.0, 0.0]
    with pytest.raises(NotFlatError, match="it looks at values"):
        record(lambda x: [x[x > 0]], torch.ones(3))


@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy])
def test_a_mean_loss_is_flat_without_a_warning_of_torch(loss, capfd):
    """Its form for given memory would resize that to the examples' losses and back."""
    one, other = torch.rand(5, 2), torch.rand(5, 2)
    flat = flat_of(lambda x, y: [loss(x, y)], one, other)
    assert torch.equal(flat.call(other, one)[0], loss(other, one))
    assert capfd.readouterr().err == ""
