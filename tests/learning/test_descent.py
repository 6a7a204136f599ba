from functools import partial

import pytest
import torch
from torch import nn

from regraft.learning.batches import BatchSource
from regraft.learning.callbacks import Callbacks
from regraft.learning.candidate import CandidateRun, CandidateSettings
from regraft.learning.descent import best_weights_kept, descend
from regraft.learning.eager_step import EagerStep
from regraft.learning.learner import Learner
from regraft.learning.optimizers import make_optimizer
from regraft.learning.resuming import Watch
from regraft.learning.stages import Stages
from small_models import objective_of, same_weights, three_classes, weights_of


def runs_of(model, rates):
    learner = Learner(model)
    optimizers = [make_optimizer("sgd", learner.parameters, lr=lr, weight_decay=None) for lr in rates]
    return [
        CandidateRun(CandidateSettings(lr), EagerStep(learner, objective_of(), optimizer))
        for lr, optimizer in zip(rates, optimizers, strict=True)
    ]


def descended(model, rates, validation=None, epochs=2):
    source = partial(BatchSource, order=None, batch_size=32, seed=0)
    with Stages(model, three_classes(), validation, None, epochs=epochs, source=source) as stages:
        stages.enter(0)
        return descend(
            runs_of(model, rates),
            stages,
            objective_of(),
            None,
            metrics=None,
            trace=None,
            prepare=lambda *_: None,
            watch=Watch(None, Callbacks([]), {}),
        )


def test_the_epochs_are_plain_steps_over_the_batches():
    model = nn.Linear(4, 3)
    reference = nn.Linear(4, 3)
    reference.load_state_dict(model.state_dict())

    history = descended(model, [0.1], epochs=1)

    inputs, labels = three_classes()
    source = BatchSource((inputs, labels), torch.device("cpu"), order=None, batch_size=32, seed=0)
    step = runs_of(reference, [0.1])[0].eager
    losses = [(float(step(inputs[indices], labels[indices])), len(indices)) for indices in source.epoch(0).indices]
    assert same_weights(weights_of(model), weights_of(reference))
    assert history.train_loss == (pytest.approx(sum(loss * count for loss, count in losses) / 90, rel=1e-6),)  # float32


def test_of_several_candidates_the_best_ones_weights_stay():
    together, alone = nn.Linear(4, 3), nn.Linear(4, 3)
    alone.load_state_dict(together.state_dict())

    history = descended(together, [1e-4, 0.5], validation=three_classes(seed=1))
    descended(alone, [0.5])

    assert history.lr == 0.5
    assert [candidate.lr for candidate in history.candidates] == [1e-4, 0.5]
    assert same_weights(weights_of(together), weights_of(alone))


def test_an_interrupt_leaves_the_weights_that_were_kept():
    model = nn.Linear(4, 3)
    (run,) = runs_of(model, [0.1])
    run.begin(run.learner)
    before = weights_of(model)

    def interrupted():
        with best_weights_kept([run]):
            model.weight.data += 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert same_weights(before, weights_of(model))
