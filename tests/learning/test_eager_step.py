import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.errors import TrainError
from regraft.learning.eager_step import EagerStep, lower_precision
from regraft.learning.learner import Learner
from small_models import TwoParts, objective_of, three_classes


def plain_step(model, **options):
    descent = torch.optim.SGD(model.parameters(), lr=1.0)
    return EagerStep(Learner(model), objective_of(), descent, **options)


def test_a_step_goes_down_the_gradient_and_tells_the_loss_before():
    inputs, labels = three_classes()
    model = nn.Linear(4, 3)
    loss = F.cross_entropy(model(inputs), labels)
    (gradient,) = torch.autograd.grad(loss, [model.weight])
    expected = model.weight.detach() - gradient

    told = plain_step(model)(inputs, labels)

    assert torch.equal(told, loss.detach())
    assert not told.requires_grad
    assert torch.equal(model.weight, expected)


def test_gradients_do_not_add_up_over_steps():
    inputs, labels = three_classes()
    model = nn.Linear(4, 3)
    step = plain_step(model)
    step(inputs, labels)
    step(inputs, labels)
    after = model.weight.grad.clone()
    assert after.abs().max() < 1


def test_gradients_are_limited_by_value_and_by_length():
    inputs, labels = three_classes()
    model = TwoParts()
    plain_step(model, clip_value=1e-3)(inputs, labels)
    assert max(float(parameter.grad.abs().max()) for parameter in model.parameters()) < 1.0001e-3  # rounded to float32
    plain_step(model, clip_norm=0.01)(inputs, labels)
    squares = sum(float(parameter.grad.square().sum()) for parameter in model.parameters())
    assert squares**0.5 <= 0.01001  # torch divides by the length plus 1e-6


def test_bfloat16_is_used_where_it_is_asked_for():
    seen = []
    model = nn.Linear(4, 3)
    model.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    plain_step(model, precision="bfloat16")(*three_classes())
    plain_step(model)(*three_classes())
    assert seen == [torch.bfloat16, torch.float32]


def test_float16_keeps_gradients_that_are_smaller_than_its_numbers():
    """By a scaled loss: 1e-9 would be nothing in float16, whose smallest number is 6e-8."""
    inputs, labels = three_classes()
    exact, reduced = nn.Linear(4, 3), nn.Linear(4, 3)
    reduced.load_state_dict(exact.state_dict())
    for model, precision in ((exact, "float32"), (reduced, "float16")):
        descent = torch.optim.SGD(model.parameters(), lr=1.0)
        small = lambda outputs, labels: F.cross_entropy(outputs.float(), labels) * 1e-8  # noqa: E731
        EagerStep(Learner(model), small, descent, precision=precision)(inputs, labels)
    assert reduced.weight.grad.any()
    # float16 has 11 bits, and sums of several such products
    assert torch.allclose(reduced.weight.grad, exact.weight.grad, rtol=0.02, atol=1e-11)


def test_a_float16_step_whose_gradients_overflow_is_left_out():
    """The next scale is half as large; the weights are those before."""
    inputs, labels = three_classes()
    model = nn.Linear(4, 3)
    step = plain_step(model, precision="float16")
    before, scale = model.weight.detach().clone(), step.scaler.get_scale()
    step(inputs * 60_000, labels)
    assert torch.equal(model.weight, before)
    assert step.scaler.get_scale() == scale / 2


def test_gradients_are_limited_in_their_own_measure_in_float16():
    """Not while they are scaled."""
    inputs, labels = three_classes()
    model = TwoParts()
    plain_step(model, clip_norm=0.01, precision="float16")(inputs, labels)
    squares = sum(float(parameter.grad.square().sum()) for parameter in model.parameters())
    assert 0.0099 < squares**0.5 <= 0.01001  # torch divides by the length plus 1e-6


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


def test_an_optimizer_that_asks_for_the_loss_itself_gets_it():
    """torch's L-BFGS, as its documentation drives it."""
    inputs, labels = three_classes()
    one, other = nn.Linear(4, 3), nn.Linear(4, 3)
    other.load_state_dict(one.state_dict())
    descent = lbfgs(other.parameters())

    def closure():
        descent.zero_grad()
        loss = F.cross_entropy(other(inputs), labels)
        loss.backward()
        return loss

    told = EagerStep(Learner(one), objective_of(), lbfgs(one.parameters()))(inputs, labels)
    assert torch.equal(told, descent.step(closure).detach())
    assert torch.equal(one.weight, other.weight)
    with pytest.raises(TrainError, match="LBFGS evaluates the loss several times a step, which float16"):
        EagerStep(Learner(one), objective_of(), lbfgs(one.parameters()), precision="float16")


def test_an_unknown_precision_is_answered_with_the_known_ones():
    with pytest.raises(TrainError, match=r"no precision 'float8'. Did you mean 'float32'"):
        lower_precision("float8", torch.device("cpu"))
