import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.errors import TrainError
from regraft.learning.learners import Learner
from regraft.learning.losses import as_loss
from regraft.learning.stepping import EagerStep, lower_precision
from small_models import TwoParts, three_classes


def plain_step(model, **options):
    descent = torch.optim.SGD(model.parameters(), lr=1.0)
    return EagerStep(Learner(model), as_loss("cross_entropy"), descent, **options)


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


def test_an_unknown_precision_is_answered_with_the_known_ones():
    with pytest.raises(TrainError, match=r"no precision 'float8'. Did you mean 'float32'"):
        lower_precision("float8", torch.device("cpu"))
