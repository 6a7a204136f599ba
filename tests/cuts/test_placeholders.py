"""A stub tells its shape and type, and nothing else."""

import pytest
import torch

from regraft.cuts.placeholders import MissingDataError, Stub, hollow


class Run:
    """The run that a stub asks."""

    def __init__(self):
        self.asked = 0

    def asked_for_size(self, stub):
        self.asked += 1

    def operate(self, func, stubs, args, kwargs):
        return f"{len(stubs)} stubs"

    def missing_data(self, stubs, func):
        return MissingDataError("no data", (1,))


def stub(*, is_certain=True):
    made = Stub((2, 3), (3, 1), torch.float32, torch.device("cpu"))
    made.value, made.run, made.is_certain = 1, Run(), is_certain
    return made


def test_shape_and_type_are_known():
    """Without asking the run."""
    made = stub()
    assert (made.shape, made.dtype, made.dim(), len(made)) == ((2, 3), torch.float32, 2, 2)
    assert made.run.asked == 0


def test_an_uncertain_size_is_asked_for():
    """The run answers for it."""
    made = stub(is_certain=False)
    assert made.shape == (2, 3)
    assert made.run.asked == 1


def test_operations_go_to_the_run():
    """With the stubs among their arguments."""
    assert torch.add(stub(), torch.ones(3)) == "1 stubs"


def test_no_operator_gets_data():
    """Below torch's functions too."""
    with pytest.raises(MissingDataError, match="no data"), torch._C.DisableTorchFunctionSubclass():
        stub() + 1


def test_a_hollow_tensor_has_the_shape_and_zeros():
    """For zeros_like and its kind."""
    assert torch.equal(hollow(stub()), torch.zeros(2, 3))
    assert hollow(torch.ones(1)).item() == 1
