import warnings

import pytest
import torch
from torch import nn

from regraft.errors import TrainError
from regraft.learning.old_keywords import translated
from regraft.learning.solvers import Exact, Steps
from regraft.training import train
from small_models import TwoParts, same_weights, three_classes, weights_of


@pytest.mark.parametrize(
    ("solver", "given", "expected"),
    [
        (None, {"epochs": 20}, [Steps(epochs=20)]),
        (None, {"lr": 0.1, "batch_size": 8}, [Steps(lr=0.1, batch_size=8)]),
        (None, {"step": "eager"}, [Steps(traced=False)]),
        (None, {"step": "auto", "precision": "float32"}, [Exact(), Steps()]),
        (None, {"batch_size": 8}, [Exact(), Steps(batch_size=8)]),
        (None, {"weight_decay": [0.1, 1.0]}, [Exact(weight_decay=[0.1, 1.0]), Steps(weight_decay=[0.1, 1.0])]),
        ("steps", {}, [Steps()]),
        ("steps", {"weight_decay": 0.1}, [Steps(weight_decay=0.1)]),
        ("lbfgs", {"epochs": 2, "weight_decay": 0.1}, [Exact(weight_decay=0.1)]),
    ],
)
def test_the_old_keywords_mean_what_they_meant(solver, given, expected):
    """Any keyword but weight_decay and batch_size asked for gradient steps."""
    assert translated(solver, given) == expected


def test_the_old_form_trains_as_the_new_one_and_the_warning_names_it():
    """At the line of the caller."""
    one, other = TwoParts(), TwoParts()
    with pytest.warns(
        DeprecationWarning, match=r"^train\(…, epochs=2, lr=0.01\) is deprecated. Pass solver=Steps"
    ) as warned:
        train(one, three_classes(), epochs=2, lr=0.01, patience=None)
    train(other, three_classes(), solver=Steps(epochs=2, lr=0.01))
    assert same_weights(weights_of(one), weights_of(other))
    assert str(warned[0].message).endswith("Pass solver=Steps(lr=0.01, epochs=2).")
    assert warned[0].filename == __file__


def test_the_old_solvers_are_named_by_the_new_ones():
    with pytest.warns(
        DeprecationWarning, match=r"^train\(…, solver=\'lbfgs\'\) is deprecated. Pass solver=Exact\(\)\.$"
    ):
        assert train(nn.Linear(4, 3), three_classes(), solver="lbfgs").solver == "lbfgs"
    with pytest.warns(
        DeprecationWarning, match=r"Pass solver=Steps\(batch_size=8\) or, for one linear layer, solver=Exact"
    ):
        assert train(nn.Linear(4, 3), three_classes(), batch_size=8).solver == "lbfgs"


def test_an_unknown_keyword_is_a_type_error_with_near_names():
    """As Python's own, and nothing is trained."""
    model = TwoParts()
    before = weights_of(model)
    with pytest.raises(
        TypeError, match=r"unexpected keyword argument 'epoch'. Did you mean 'epochs'\?.* go into solver=Steps\(…\)"
    ):
        train(model, three_classes(), epoch=3)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'validatoin'. Did you mean 'validation'"):
        train(model, three_classes(), validatoin=None)
    assert same_weights(before, weights_of(model))


def test_old_keywords_beside_a_solver_are_a_type_error():
    with pytest.raises(
        TypeError, match=r"train\(\) takes epochs, lr as arguments of the solver: pass them to Steps\(\)"
    ):
        train(TwoParts(), three_classes(), solver=Steps(), epochs=3, lr=0.1)


def test_an_unknown_solver_or_step_is_answered_with_the_known_ones():
    with pytest.raises(
        TrainError, match=r"(?s)no solver 'lbgfs'. Did you mean 'lbfgs'.*no step 'egar'. Did you mean 'e"
    ):
        train(TwoParts(), three_classes(), solver="lbgfs", step="egar")


def test_the_new_form_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(nn.Linear(4, 3), (torch.randn(6, 4), torch.arange(6) % 3), solver=Exact())


def test_arguments_of_steps_are_shown_in_their_place():
    """Also under the names that other libraries give them."""
    with pytest.raises(TypeError) as refused:
        train(TwoParts(), three_classes(), epochs=2, lr=[0.1], lr_scheduler="cosine")
    assert str(refused.value) == (
        "train() takes no argument lr_scheduler. Pass solver=regraft.Steps(epochs=2, lr=[0.1], lr_schedule='cosine')."
    )
