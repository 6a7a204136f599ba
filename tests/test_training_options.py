"""What `train` takes beside data and solver, against plain PyTorch loops."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from regraft.caching import cache_features
from regraft.errors import DataError, TrainError
from regraft.evaluating import evaluate
from regraft.learning.request import WeightedLoss
from regraft.learning.solvers import Steps
from regraft.training import train
from small_models import features_of, frozen_model, head_of, same_weights, three_classes, weights_of

BATCHES = list(torch.arange(90).split(15))
NAMES = ["ant", "bee", "cat"]


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def in_order(**options):
    return Steps(optimizer=sgd, epochs=3, order=lambda _: BATCHES, **options)


def plain_loop(model, loss, after=lambda optimizer: None):
    """Three epochs of SGD; `loss` takes outputs and the indices of a batch."""
    inputs, _ = three_classes()
    optimizer = sgd(model.parameters())
    after(optimizer)
    for _ in range(3):
        for indices in BATCHES:
            optimizer.zero_grad()
            loss(model(inputs[indices]), indices).backward()
            optimizer.step()
            after(optimizer)
    return model


WEIGHTS = torch.linspace(0, 2, 90)
LABELS = three_classes()[1]
LOSSES = {
    "class weights": (
        {"loss": WeightedLoss(class_weights=[1.0, 2.0, 0.5])},
        lambda o, i: F.cross_entropy(o, LABELS[i], torch.tensor([1, 2, 0.5])),
    ),
    "smoothing": (
        {"loss": WeightedLoss(label_smoothing=0.2)},
        lambda o, i: F.cross_entropy(o, LABELS[i], label_smoothing=0.2),
    ),
    "sample weights": (
        {"loss": WeightedLoss(sample_weights=WEIGHTS)},
        lambda o, i: (F.cross_entropy(o, LABELS[i], reduction="none") * WEIGHTS[i]).sum() / WEIGHTS[i].sum(),
    ),
    "a sum": (
        {"loss": nn.CrossEntropyLoss(reduction="sum")},
        lambda o, i: F.cross_entropy(o, LABELS[i], reduction="sum"),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_a_loss_are_those_of_a_plain_loop(name):
    options, loss = LOSSES[name]
    model, reference = small(), small()
    train(model, three_classes(), solver=in_order(), **options)
    plain_loop(reference, loss)
    assert same_weights(weights_of(model), weights_of(reference))


def test_several_batches_make_the_step_of_a_large_one():
    """Six batches of fifteen, three for each update, against two of forty-five; sums in another order."""
    model, reference = small(), small()
    train(model, three_classes(), solver=in_order(accumulate=3))
    large = Steps(optimizer=sgd, epochs=3, order=lambda _: torch.arange(90).split(45))
    history = train(reference, three_classes(), solver=large)
    pairs = zip(weights_of(model).values(), weights_of(reference).values(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert len(history.train_loss) == 3


def test_accumulated_positions_count_and_not_batches():
    """Batches with different numbers of ignored positions."""
    inputs, labels = torch.randn(8, 5, 4), torch.randint(3, (8, 5))
    labels[:4, 1:] = -100
    model = nn.Linear(4, 3)
    reference = copy.deepcopy(model)
    steps = {"optimizer": sgd, "epochs": 2}
    train(model, (inputs, labels), solver=Steps(order=lambda _: torch.arange(8).split(4), accumulate=2, **steps))
    train(reference, (inputs, labels), solver=Steps(order=lambda _: [torch.arange(8)], **steps))
    assert torch.allclose(model.weight, reference.weight, atol=1e-6)


def test_a_schedule_of_the_rate_is_that_of_a_plain_loop():
    model, reference, made = small(), small(), []

    def after(optimizer):
        if not made:
            made.append(torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=18))
        else:
            made[0].step() if made[0].last_epoch < 17 else None

    history = train(model, three_classes(), solver=in_order(lr_schedule="one_cycle"))
    plain_loop(reference, lambda o, i: F.cross_entropy(o, LABELS[i]), after)
    assert same_weights(weights_of(model), weights_of(reference))
    assert history.notes[-1].startswith(("traced step", "eager step"))


def test_patterns_have_their_own_rates():
    model = small()
    before = weights_of(model)
    train(model, three_classes(), solver=Steps(optimizer="sgd", lr={"0": 1e-9, "2": 0.1}, epochs=2))
    assert torch.allclose(model[0].weight, before["0.weight"], atol=1e-6)
    assert not torch.allclose(model[2].weight, before["2.weight"], atol=1e-3)


def test_averaged_weights_are_scored_and_kept():
    inputs, labels = three_classes()
    model, reference = small(), small()
    history = train(model, (inputs, labels), validation=(inputs, labels), solver=in_order(averaging=0.9))
    averages = [p.detach().clone() for p in reference.parameters()]

    def after(_):
        for average, parameter in zip(averages, reference.parameters(), strict=True):
            average.lerp_(parameter.detach(), 0.1)

    plain_loop(reference, lambda o, i: F.cross_entropy(o, LABELS[i]), after)
    assert all(torch.allclose(a, p, atol=1e-6) for a, p in zip(averages, model.parameters(), strict=True))
    assert history.validation_loss[-1] == pytest.approx(evaluate(model, (inputs, labels)).loss)


def test_the_mean_of_the_last_epochs_has_its_own_statistics_of_batches():
    """As torch's AveragedModel and update_bn give them, in each epoch and in the end."""
    inputs, labels = three_classes()

    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    model, reference = network(), network()
    solver = in_order(averaging="swa", averaging_start=1)
    history = train(model, (inputs, labels), validation=(inputs, labels), solver=solver)
    average, optimizer, losses = AveragedModel(reference), sgd(reference.parameters()), []
    for epoch in range(3):
        reference.train()
        for indices in BATCHES:
            optimizer.zero_grad()
            F.cross_entropy(reference(inputs[indices]), labels[indices]).backward()
            optimizer.step()
        if epoch >= 1:
            average.update_parameters(reference)
            update_bn([inputs[indices] for indices in BATCHES], average)
            losses.append(float(F.cross_entropy(average.eval()(inputs), labels).detach()))

    assert history.validation_loss[2] == pytest.approx(losses[1], rel=1e-5)
    assert torch.allclose(model[1].running_var, average.module[1].running_var, rtol=1e-5)
    assert torch.allclose(model[0].weight, average.module[0].weight, atol=1e-6)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(ignore_index=255), WeightedLoss(class_weights=[1.0, 5.0, 0.5])])
def test_the_loss_of_an_epoch_is_over_all_its_labels(loss):
    """With weights that do not move, it is the loss of the whole set, as `evaluate` gives it."""
    inputs, labels = torch.randn(9, 5, 4), torch.randint(3, (9, 5))
    if not isinstance(loss, WeightedLoss):
        labels[:6, 1:] = 255
    model = nn.Linear(4, 3)
    solver = Steps(optimizer=lambda p: torch.optim.SGD(p, lr=0.0), epochs=1, batch_size=4)
    history = train(model, (inputs, labels), task="token-classification", loss=loss, solver=solver)
    assert history.train_loss[0] == pytest.approx(evaluate(model, (inputs, labels)).loss, rel=1e-5)


def test_an_interrupt_gives_the_history_of_the_finished_epochs():
    """And the task and loss of the training stay known."""

    def stop(end):
        if end.epoch == 1:
            raise KeyboardInterrupt

    model, data = small(), three_classes()
    weighted = WeightedLoss(class_weights=[1.0, 2.0, 0.5])
    with pytest.raises(KeyboardInterrupt, match="interrupted after 2 finished epochs") as got:
        train(model, data, validation=data, loss=weighted, solver=in_order(callbacks=[stop]))
    history = got.value.history
    assert (history.epochs, history.stopped_because) == (2, "interrupted after 2 finished epochs")
    assert history.notes[0].startswith("task: classification")
    assert evaluate(model, data).loss == pytest.approx(history.validation_loss[1])


def test_the_best_epoch_is_that_of_the_monitored_metric():
    inputs, labels = three_classes()
    history = train(
        small(), (inputs, labels), validation=(inputs[:30], labels[:30]), metrics=["f1", "accuracy"],
        solver=Steps(epochs=6, patience=6, monitor="f1"),
    )  # fmt: skip
    values = history.validation_metrics["f1"]
    assert history.best_epoch == values.index(max(values))
    assert history.monitor == "f1"
    assert history.task == "classification"


def test_what_a_monitor_needs_is_said_before_training():
    with pytest.raises(TrainError, match=r"monitor='f1' is a number of the validation: pass validation examples"):
        train(small(), three_classes(), solver=Steps(monitor="f1"))
    with pytest.raises(TrainError, match=r"no metric 'f3' to monitor"):
        train(small(), three_classes(), validation=three_classes(), solver=Steps(monitor="f3"))
    with pytest.raises(TrainError, match=r"follows the validation: pass validation examples"):
        train(small(), three_classes(), solver=Steps(lr_schedule="plateau"))


def test_labels_by_name_are_numbered_alike_everywhere():
    """A part without one of the classes has the numbers of the whole; the score needs no classes any more."""
    inputs, labels = three_classes()
    names = [NAMES[label] for label in labels.tolist()]
    by_name, by_number = frozen_model(), frozen_model()
    solver = Steps(epochs=2)
    features = cache_features(head_of(by_name).trunk, (inputs, names))
    assert features.classes == ("ant", "bee", "cat")
    late = [index for index, name in enumerate(names) if name != "ant"]
    held_out = cache_features(head_of(by_name).trunk, (inputs[late], [names[index] for index in late]))
    assert held_out.classes == ("bee", "cat")

    head = head_of(by_name)
    features = cache_features(head.trunk, (inputs, names))
    first = train(head, features, validation=held_out, solver=solver)
    other = head_of(by_number)
    numbers = features_of(other, inputs, labels, batch_size=64)
    second = train(other, numbers, validation=numbers.subset(torch.tensor(late)), solver=solver)

    assert first.validation_loss == second.validation_loss
    assert same_weights(weights_of(by_name), weights_of(by_number))
    assert evaluate(head, held_out) == evaluate(other, numbers.subset(torch.tensor(late)))
    rows = list(zip(inputs, names, strict=True))
    assert evaluate(by_name, rows).accuracy == evaluate(by_number, (inputs, labels)).accuracy
    with pytest.raises(DataError, match=r"label 'dog' is none of the 3 classes"):
        evaluate(by_name, [(inputs[0], "dog")])


def test_a_data_set_of_names_asks_for_their_order():
    inputs, labels = three_classes(12)
    rows = [(row, NAMES[label]) for row, label in zip(inputs, labels.tolist(), strict=True)]
    with pytest.raises(DataError, match=r"order of the classes is not known[\s\S]*Pass classes="):
        train(small(), rows, solver=Steps(epochs=1))
    assert train(small(), rows, classes=NAMES, solver=Steps(epochs=1)).epochs == 1


def test_the_score_has_the_task_and_loss_of_the_training():
    inputs = torch.randn(40, 4)
    several = (inputs[:, :3] > 0).float()
    model = small()
    train(model, (inputs, several), task="multilabel", solver=Steps(epochs=1))
    score = evaluate(model, (inputs, several))
    assert list(score.metrics) == ["accuracy", "f1"]
    with torch.no_grad():
        expected = F.binary_cross_entropy_with_logits(model(inputs), several)
    assert score.loss == pytest.approx(float(expected), rel=1e-6)


def test_a_batch_without_labels_is_said_to_have_none():
    """Its mean loss is 0 / 0; larger batches have some."""
    inputs, labels = torch.randn(8, 5, 4), torch.randint(3, (8, 5))
    labels[:4] = -100
    model = nn.Linear(4, 3)
    solver = Steps(epochs=1, order=lambda _: torch.arange(8).split(4))
    with pytest.raises(TrainError, match="Step 0 of epoch 0, both counted from 0, has no label"):
        train(model, (inputs, labels), solver=solver)
