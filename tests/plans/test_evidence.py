"""A kernel with equal sides is not believed as stored once others of its kind fit only in another order."""

import numpy as np
import pytest
import torch
from torch import nn

from in_memory import arrays_of, checkpoint_of, keras_arrays_of
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


def dense():
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 5))


def convolutions():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3), nn.Conv2d(3, 3, 3))


def stored(model, order):
    """The model's arrays, kernels in another order of their axes."""
    arrays = arrays_of(model)
    return {name: array.transpose(order) if array.ndim == len(order) else array for name, array in arrays.items()}


CASES = [
    (dense, (1, 0), "transposed", (2, 3)),
    (convolutions, (2, 3, 1, 0), "axes 3,2,0,1", (1, 3, 9, 9)),
    (convolutions, (0, 2, 3, 1), "axes 0,3,1,2", (1, 3, 9, 9)),
]


@pytest.mark.parametrize(("make", "order", "word", "shape"), CASES)
@pytest.mark.parametrize("how", ["all at once", "those that do not fit first"])
def test_what_is_advised_gives_the_source_s_function(make, order, word, shape, how):
    """Also after the user has settled those that do not fit: these are evidence still."""
    theirs, ours = make().eval(), make().eval()
    checkpoint = checkpoint_of(stored(theirs, order), layout="torch")
    x = torch.randn(shape)

    plan = plan_reuse(checkpoint, ours)
    advised = {name: way for row in plan.problems for one in row.advice[:1] for name, way in one.value.items()}
    misfits = {name: way for name, way in advised.items() if plan_row(plan, name).status == "shape_mismatch"}
    if how != "all at once":
        assert {row.status for row in plan_reuse(checkpoint, ours, adapt=misfits).problems} == {
            "undecidable_orientation"
        }
    apply_plan(plan_reuse(checkpoint, ours, adapt=advised), checkpoint, ours)

    assert set(advised.values()) == {word}
    assert torch.equal(ours(x), theirs(x))


def plan_row(plan, name):
    return next(row for row in plan.rows if row.name == name)


def test_kernels_that_all_fit_are_not_doubted():
    assert not plan_reuse(checkpoint_of(arrays_of(dense()), layout="torch"), dense()).problems


def test_an_answer_of_another_kind_is_no_evidence():
    """Keras' kernels are turned by their layout; that one of them is also unflattened says nothing of the others."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(24, 5), nn.Linear(5, 7), nn.Linear(7, 7))
    named = {"0": model[0], "2": model[2], "3": model[3], "4": model[4]}
    checkpoint = checkpoint_of(keras_arrays_of(named), layout="tensorflow")

    for adapt in ({}, {r"3\.weight": "first rows"}):  # which adds nothing to a kernel of the right size
        assert not plan_reuse(checkpoint, model, adapt={**adapt, r"2\.weight": "flatten 2x3x4"}).problems


@pytest.mark.parametrize(
    ("source", "target"),
    [("text_projection", "proj.weight"), ("proj.weight", "text_projection"), ("proj", "proj.weight")],
)
def test_a_matrix_of_its_own_is_no_kernel(source, target):
    """x @ W here, x @ Wᵀ there (CLIP's text_projection): equal sides decide nothing."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            if target == "proj.weight":
                self.proj = nn.Linear(4, 4, bias=False)
            else:
                self.text_projection = nn.Parameter(torch.zeros(4, 4))

    checkpoint = checkpoint_of({source: np.eye(4, dtype="float32"), "x.weight": np.ones(1)}, layout="torch")

    plan = plan_reuse(checkpoint, Model(), rename={source.replace(".", r"\."): target})
    kept = plan_reuse(checkpoint, Model(), rename={source.replace(".", r"\."): target}, adapt={target: "transposed"})

    assert [row.status for row in plan.problems] == ["undecidable_orientation"]
    assert not kept.problems
