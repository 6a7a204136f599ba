"""What is called while a training runs."""

import pytest
import torch
from torch import nn

from regraft import Steps, train
from regraft.learning.callbacks import Callback

DATA = (torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2)


class Recorder(Callback):
    """Notes every event."""

    def __init__(self):
        self.events = []

    def train_begin(self, settings):
        self.events.append(("begin", settings["task"], settings["seed"]))

    def epoch_end(self, end):
        self.events.append((end.epoch, end.epochs, sorted(end.numbers)))

    def train_end(self, history):
        self.events.append(("end", history.epochs))

    def close(self):
        self.events.append("closed")


def test_every_event_is_called_in_its_order():
    """With the numbers of the epoch; a function is called after each epoch."""
    recorder, losses = Recorder(), []
    solver = Steps(epochs=2, callbacks=[recorder, lambda end: losses.append(end.numbers["train_loss"])])
    history = train(nn.Linear(3, 2), DATA, validation=DATA, task="classification", solver=solver, seed=5)
    numbers = ["lr", "train_loss", "validation_accuracy", "validation_loss"]
    assert recorder.events == [
        ("begin", "classification", 5), (0, 2, numbers), (1, 2, numbers), ("end", 2), "closed",
    ]  # fmt: skip
    assert losses == list(history.train_loss)


def test_an_error_in_a_callback_ends_the_training_and_closes_all():
    """The weights of the finished epoch stay."""
    recorder, model = Recorder(), nn.Linear(3, 2)
    before = model.weight.clone()

    def stop(end):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(model, DATA, task="classification", solver=Steps(epochs=3, callbacks=[recorder, stop]))
    assert recorder.events[-1] == "closed"
    assert len(recorder.events) == 3
    assert not torch.equal(model.weight, before)
