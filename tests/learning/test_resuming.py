"""A training that was interrupted and went on gives the same as one that never was, bit for bit."""

import pytest
import torch
from torch import nn

from regraft import Steps, WeightedLoss, cache_features, freeze, split, train
from regraft.errors import TrainError
from regraft.learning.checkpoints import Checkpoints

EPOCHS = 4
INPUTS = torch.randn(24, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % 3
HELD_OUT = (INPUTS[:9] + 0.1, LABELS[:9])


def network():
    """A frozen layer, and some with dropout and batch statistics."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 3)
    )


def trained(solver, *, cached=False, model=None, seed=3):
    """The state after training, and the history."""
    model = network() if model is None else model
    freeze(model, layers="0")
    data, held_out, learner = (INPUTS, LABELS), HELD_OUT, model
    if cached:
        trunk, learner = split(model, INPUTS[:2])
        data, held_out = (cache_features(trunk, part, batch_size=6) for part in (data, held_out))
    history = train(learner, data, validation=held_out, task="classification", solver=solver, seed=seed)
    return {name: value.clone() for name, value in model.state_dict().items()}, history


class StopTraining(KeyboardInterrupt):
    """What ends the first run."""


def stop_after(epoch):
    def stop(end):
        if end.epoch == epoch:
            raise StopTraining

    return stop


def resumed(folder, options, *, cached, after=1):
    """Interrupted after an epoch, and then continued by another model with other initial weights."""
    first = Steps(**options, checkpoints=Checkpoints(folder), callbacks=[stop_after(after)])
    with pytest.raises(StopTraining):
        trained(first, cached=cached)
    model = network()
    with torch.no_grad():
        model[6].weight.add_(1)
    torch.manual_seed(99)
    return trained(Steps(**options, checkpoints=Checkpoints(folder, resume=True)), cached=cached, model=model)


OPTIONS = {
    "adamw": {},
    "momentum": {"optimizer": "momentum"},
    "own optimizer": {"optimizer": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01)},
    "one cycle": {"lr_schedule": "one_cycle", "lr": 0.01},
    "warm-up and cosine": {"lr_schedule": "cosine", "warmup": 3},
    "plateau": {"lr_schedule": "plateau", "lr_arguments": {"patience": 0}},
    "step": {"lr_schedule": "MultiStepLR", "lr_arguments": {"milestones": [1, 2]}},
    "accumulated": {"accumulate": 2},
    "averaged": {"averaging": 0.9},
    "mean": {"averaging": "swa", "averaging_start": 0.3},
    "several rates": {"lr": [0.1, 0.001]},
    "patience": {"patience": 2, "lr": 0.1},
    "float16": {"precision": "float16"},
    "eager": {"traced": False},
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_resumed_training_ends_in_the_same_weights(tmp_path, name, cached):
    """And in the same history, but for the seconds and the notes."""
    options = {"epochs": EPOCHS, "batch_size": 6, **OPTIONS[name]}
    weights, history = trained(Steps(**options), cached=cached)
    again, other = resumed(tmp_path, options, cached=cached)
    assert all(torch.equal(weights[part], again[part]) for part in weights)
    assert (other.train_loss, other.validation_loss) == (history.train_loss, history.validation_loss)
    assert (other.best_epoch, other.stopped_because) == (history.best_epoch, history.stopped_because)
    assert [c.train_loss for c in other.candidates] == [c.train_loss for c in history.candidates]
    assert any("went on after 2 epochs" in note for note in other.notes)


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_gradual_unfreezing_goes_on_in_its_stage(tmp_path, after, cached):
    """Before, at and behind the epoch in which layers are unfrozen."""
    options = {"epochs": EPOCHS, "batch_size": 6, "schedule": {0: "6", 2: "[23]"}, "averaging": 0.9}
    weights, history = trained(Steps(**options), cached=cached)
    again, other = resumed(tmp_path, options, cached=cached, after=after)
    assert all(torch.equal(weights[part], again[part]) for part in weights)
    assert [stage.layers for stage in other.stages] == [stage.layers for stage in history.stages]


def test_more_epochs_can_be_added_later(tmp_path):
    """Where no rate depends on their number."""
    weights, _ = trained(Steps(epochs=4, batch_size=6))
    trained(Steps(epochs=2, batch_size=6, checkpoints=tmp_path))
    again, history = trained(Steps(epochs=4, batch_size=6, checkpoints=Checkpoints(tmp_path, resume=True)))
    assert all(torch.equal(weights[part], again[part]) for part in weights)
    assert history.epochs == 4


def test_a_finished_training_gives_its_weights_again(tmp_path):
    """Without another epoch."""
    weights, history = trained(Steps(epochs=2, batch_size=6, checkpoints=tmp_path))
    again, other = trained(Steps(epochs=2, batch_size=6, checkpoints=Checkpoints(tmp_path, resume=True)))
    assert all(torch.equal(weights[part], again[part]) for part in weights)
    assert other.train_loss == history.train_loss


@pytest.mark.parametrize(
    ("change", "seed", "words"),
    [
        ({"batch_size": 8}, 3, "batch_size: 6 there, 8 now"),
        ({"optimizer": "sgd"}, 3, "optimizer: None there, 'sgd' now"),
        ({}, 4, "seed: 3 there, 4 now"),
    ],
)
def test_another_training_is_refused(tmp_path, change, seed, words):
    """With each difference."""
    options = {"epochs": 2, "batch_size": 6}
    trained(Steps(**options, checkpoints=tmp_path))
    with pytest.raises(TrainError, match=rf"(?s)is of another training.*{words}"):
        trained(Steps(**{**options, **change}, checkpoints=Checkpoints(tmp_path, resume=True)), seed=seed)


def test_other_inputs_and_other_class_weights_are_another_training(tmp_path):
    """Also where names, counts and labels are the same."""
    inputs, labels = torch.randn(12, 4), torch.arange(12) % 3

    def run(inputs, weights, **options):
        loss = WeightedLoss(class_weights=weights)
        train(torch.nn.Linear(4, 3), (inputs, labels), loss=loss, solver=Steps(epochs=2, **options))

    run(inputs, [1.0, 2.0, 3.0], checkpoints=tmp_path)
    again = Checkpoints(tmp_path, resume=True)
    run(inputs, [1.0, 2.0, 3.0], checkpoints=again)
    with pytest.raises(TrainError, match="inputs: "):
        run(inputs + 1, [1.0, 2.0, 3.0], checkpoints=again)
    with pytest.raises(TrainError, match="loss settings: "):
        run(inputs, [1.0, 2.0, 4.0], checkpoints=again)


def test_fewer_epochs_than_are_finished_are_refused(tmp_path):
    """The weights of an earlier epoch are gone."""
    trained(Steps(epochs=3, batch_size=6, checkpoints=tmp_path))
    with pytest.raises(TrainError, match="3 finished epochs, and 2 epochs are asked for"):
        trained(Steps(epochs=2, batch_size=6, checkpoints=Checkpoints(tmp_path, resume=True)))
