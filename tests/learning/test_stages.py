"""Gradual unfreezing: on cached features as in the whole model, to the last bit."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

import vision_stub  # noqa: F401  # before torchvision
from regraft.caches.costs import Cost
from regraft.caching import cache_features
from regraft.errors import TrainError
from regraft.freezing import freeze, frozen_names, parameter_groups, unfreeze
from regraft.learning.solvers import Steps
from regraft.learning.stages import Stages
from regraft.splitting import split
from regraft.training import train
from small_models import on_grid, same_weights, three_classes, weights_of

BATCH, COUNT, MARK = 8, 24, 7.0
GRID = 2**-4  # of the weights, see `on_grid`: with images in eighths three convolutions need at most 23 bits
SCHEDULE = {0: "head", 1: "conv3|norm3", 3: ["conv2", "norm2"]}


class Counting(nn.Conv2d):
    """Counts the rows that come from the data set; they begin with a mark, the example does not."""

    rows = 0

    def forward(self, x):
        Counting.rows += int((x[:, 0, 0, 0] == MARK).sum())
        return super().forward(x)


def norm(channels):
    """A BatchNorm that changes nothing until it trains: 1 + eps is 1 in float32, so that sums behind it stay exact."""
    return nn.BatchNorm2d(channels, eps=1e-8)


class Net(nn.Module):
    """Three convolutions with BatchNorm and dropout, and a linear head. What waits gives exact sums."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = on_grid(Counting(3, 4, 3, padding=1), GRID), norm(4)
        self.conv2, self.norm2, self.drop2 = on_grid(nn.Conv2d(4, 6, 3, padding=1), GRID), norm(6), nn.Dropout(0.2)
        self.conv3, self.norm3, self.drop3 = on_grid(nn.Conv2d(6, 8, 3, padding=1), GRID), norm(8), nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.norm1(self.conv1(x)).relu()
        x = self.drop2(self.norm2(self.conv2(x)).relu())
        return self.head(self.drop3(self.norm3(self.conv3(x)).relu().mean((2, 3))))


class Words(nn.Module):
    """A transformer encoder over token ids."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 16)
        layers = [nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, dropout=0.2) for _ in range(3)]
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(16, 3)

    def forward(self, ids):
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


def resnet():
    """torchvision's resnet18 for three classes."""
    import torchvision

    return torchvision.models.resnet18(weights=None, num_classes=3)


def images(size=8, count=COUNT):
    """Marked images, multiples of 1/8, and their classes."""
    pixels = (8 * torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))).round() / 8
    pixels[:, 0, 0, 0] = MARK
    return pixels, torch.arange(count) % 3


def sentences():
    """Token ids (24, 6) and their classes."""
    return torch.randint(0, 20, (COUNT, 6), generator=torch.Generator().manual_seed(1)), torch.arange(COUNT) % 3


def prepared(make=Net, schedule=SCHEDULE):
    """A model in which only that is frozen which never trains."""
    torch.manual_seed(0)
    model = make()
    patterns = [pattern for entry in schedule.values() for pattern in ([entry] if isinstance(entry, str) else entry)]
    freeze(model, trainable=patterns)
    return model


def cached(model, data, store=None):
    """The head and the features of the shallowest cut."""
    trunk, head = split(model, torch.zeros_like(data[0][:BATCH]) + (data[0][:BATCH] != MARK) * data[0][:BATCH])
    return head, cache_features(trunk, data, store, batch_size=BATCH)


def same_batches(epoch):
    """The batches of the features, in another order each epoch: their rows have the same bits on every processor."""
    batches = torch.arange(COUNT).split(BATCH)
    return [batches[(epoch + number) % len(batches)] for number in range(len(batches))]


@pytest.mark.parametrize(
    ("make", "data", "schedule", "does_pay", "order"),
    [
        (Net, images(), SCHEDULE, True, None),  # its sums are exact, so a row has the same bits in every batch
        (Net, images(), SCHEDULE, False, None),
        pytest.param(
            resnet, images(32), {0: "fc", 1: "layer4", 3: "layer3"}, True, same_batches, marks=pytest.mark.slow
        ),
        (Words, sentences(), {0: "head", 1: r"layers\.2", 3: r"layers\.1"}, True, same_batches),
    ],
    ids=["convolutions", "convolutions by batch", "resnet18", "transformer"],
)
def test_a_schedule_on_features_trains_as_on_the_whole_model(monkeypatch, make, data, schedule, does_pay, order):
    """Losses and final state are equal in every bit; so are the scores of the validation examples."""
    monkeypatch.setattr(Cost, "pays", lambda cost, epochs: does_pay)
    one, other = prepared(make, schedule), prepared(make, schedule)
    head, features = cached(one, data)
    solver = Steps(schedule=schedule, epochs=4, batch_size=BATCH, lr=1e-2, order=order)

    quick = train(head, features, validation=features, solver=solver)
    whole = train(other, data, validation=data, solver=solver)

    assert quick.train_loss == whole.train_loss
    assert quick.validation_loss == whole.validation_loss
    assert same_weights(weights_of(one), weights_of(other))
    assert [stage.parameters for stage in quick.stages] == [stage.parameters for stage in whole.stages]
    assert [stage.bytes > 0 for stage in quick.stages] == [does_pay, does_pay, False]


def test_it_is_what_a_hand_written_loop_with_add_param_group_does():
    """torch's own way: further parameters join the optimizer, the moments of the others go on."""
    inputs, labels = images()
    one, other = prepared(), prepared()
    head, features = cached(one, (inputs, labels))
    order = [torch.randperm(COUNT, generator=torch.Generator().manual_seed(epoch)).split(BATCH) for epoch in range(4)]
    history = train(
        head, features, solver=Steps(schedule=SCHEDULE, epochs=4, order=lambda epoch: order[epoch], optimizer="adam")
    )

    freeze(other, trainable="head")
    optimizer, losses = torch.optim.Adam(other.head.parameters(), fused=True), []
    torch.manual_seed(0)
    for epoch in range(4):
        if epoch in (1, 3):
            patterns = ["head|conv3|norm3|drop3", "head|conv3|norm3|drop3|conv2|norm2|drop2"][epoch // 3]
            for parameter in other.parameters():
                parameter.requires_grad_(True)
            for module in other.modules():
                module.__dict__.pop("train", None)
            freeze(other, trainable=patterns)
            known = {p for group in optimizer.param_groups for p in group["params"]}
            optimizer.add_param_group({"params": [p for p in other.parameters() if p.requires_grad and p not in known]})
        other.train()
        epoch_losses = []
        for batch in order[epoch]:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(other(inputs[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            epoch_losses.append(loss.detach().double() * len(batch))
        losses.append(float(torch.stack(epoch_losses).sum() / COUNT))

    assert list(history.train_loss) == losses
    assert same_weights(weights_of(one), weights_of(other))


@pytest.mark.parametrize("does_pay", [True, False])
def test_each_input_meets_a_frozen_layer_once(monkeypatch, does_pay):
    """The rows of the data set go through the trunk for the shallowest cut, never again."""
    monkeypatch.setattr(Cost, "pays", lambda cost, epochs: does_pay)
    model = prepared()
    Counting.rows = 0
    head, features = cached(model, images())
    assert Counting.rows == COUNT

    train(head, features, solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH))

    assert Counting.rows == COUNT


def test_no_input_is_read_after_the_first_features():
    """Not for the features of a deeper cut, and not by training."""

    class Reads(torch.utils.data.Dataset):
        count = 0

        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            self.count += 1
            return images()[0][index], index % 3

    data, model = Reads(), prepared()
    trunk, head = split(model, torch.randn(BATCH, 3, 8, 8))
    features = cache_features(trunk, data, batch_size=BATCH)
    data.count = 0

    train(head, features, solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH))

    assert data.count == 0


def test_a_layer_is_bit_identical_until_its_epoch_and_moves_from_then_on():
    """Weights and the statistics of its BatchNorm."""
    model, seen = prepared(), []
    head, features = cached(model, images())

    def order(epoch):
        seen.append(weights_of(model))
        return torch.arange(COUNT).split(BATCH)

    train(head, features, solver=Steps(schedule=SCHEDULE, epochs=4, order=order))
    seen.append(weights_of(model))

    by_epoch = [seen[0], *(state for one, state in itertools.pairwise(seen) if not same_weights(one, state))]
    assert len(by_epoch) == 5
    for name, tensor in by_epoch[0].items():
        first = next((e for e, pattern in ((0, "head"), (1, "conv3 norm3"), (3, "conv2 norm2"))
                      if name.split(".")[0] in pattern.split()), 4)  # fmt: skip
        assert all(torch.equal(state[name], tensor) for state in by_epoch[: first + 1]), name
        assert all(not torch.equal(state[name], tensor) for state in by_epoch[first + 1 :]), name


def test_afterwards_exactly_that_is_frozen_which_was_before():
    """The head that was given still fits, and so does a second training."""
    model = prepared()
    before = frozen_names(model), {name: p.requires_grad for name, p in model.named_parameters()}
    head, features = cached(model, images())

    train(head, features, solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH))

    assert (frozen_names(model), {name: p.requires_grad for name, p in model.named_parameters()}) == before
    train(head, features, solver=Steps(epochs=1, batch_size=BATCH))


def test_the_best_epoch_brings_back_layers_that_unfroze_after_it():
    """Their weights and statistics are the first ones again, the head's are those of the best epoch."""
    data = images()
    best, model = prepared(), prepared()
    untouched = weights_of(model)
    head, features = cached(model, data)
    groups = parameter_groups(model, {"conv3|norm3|conv2|norm2": {"lr": 1e4}})
    optimizer = torch.optim.SGD(groups, lr=1e-3)

    history = train(
        head,
        features,
        validation=features,
        solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH, patience=2, optimizer=optimizer),
    )
    freeze(best, trainable="head")
    train(best, data, solver=Steps(epochs=1, batch_size=BATCH, optimizer="sgd", lr=1e-3))

    assert history.best_epoch == 0
    assert same_weights(weights_of(model), weights_of(best))
    assert torch.equal(model.norm3.running_mean, untouched["norm3.running_mean"])
    assert history.notes[-1] == "epoch 3 was not reached: conv2 | norm2 did not train"


def test_learning_rates_by_pattern_hold_from_a_layers_first_epoch_on():
    """The optimizer is made of all layers that will ever train, as groups."""
    one, other = prepared(), prepared()
    head, features = cached(one, images())

    def optimizer(model):
        return torch.optim.AdamW(parameter_groups(model, {"conv2|conv3": {"lr": 0.0}}), lr=1e-2, weight_decay=0.0)

    train(head, features, solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH, optimizer=optimizer(one)))
    train(
        other,
        images(),
        solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH, optimizer=lambda _: optimizer(other)),
    )

    assert same_weights(weights_of(one), weights_of(other))
    assert torch.equal(one.conv3.weight, prepared().conv3.weight)
    assert not torch.equal(one.norm3.weight, prepared().norm3.weight)


def test_several_candidates_follow_the_schedule_as_each_would_alone():
    """Each with its own moments and its own weights of the layers that unfreeze."""
    data, rates = images(), [1e-3, 3e-2]
    model = prepared()
    head, features = cached(model, data)
    steps = Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH, lr=rates)

    together = train(head, features, validation=features, solver=steps)
    alone = []
    for rate in rates:
        head, features = cached(prepared(), data)
        alone.append(train(head, features, validation=features, solver=replace(steps, lr=rate)))

    assert [candidate.train_loss for candidate in together.candidates] == [run.train_loss for run in alone]


def test_the_traced_step_goes_on_where_the_optimizer_stood():
    """Traced anew for each stage, it ends in the weights of the eager one."""
    data = images(count=80)
    one, other = prepared(), prepared()
    steps = Steps(schedule={0: "head", 4: "conv3|norm3", 8: "conv2|norm2"}, epochs=12, batch_size=BATCH)
    traced = train(*cached(one, data), solver=steps)
    eager = train(*cached(other, data), solver=replace(steps, traced=False))

    assert sum("traced step" in note for note in traced.notes) == 3
    assert traced.train_loss == eager.train_loss
    assert same_weights(weights_of(one), weights_of(other))


def test_the_history_tells_the_stages(monkeypatch):
    """From which epoch what trains, at which cut, at which price, and where that did not pay."""
    monkeypatch.setattr(Cost, "pays", lambda cost, epochs: epochs > 1)
    model = prepared()
    head, features = cached(model, images())

    first, second, third = train(head, features, solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH)).stages

    assert (first.epoch, first.layers, first.parameters) == (0, ("head",), 27)
    assert first.bytes == 0
    assert first.note.startswith(
        "each batch is computed on to its cut, for features of its own do not pay: Caching 24 examples"
    )
    assert (second.epoch, second.bytes, second.note) == (1, COUNT * second.bytes_per_example, "")
    assert (third.epoch, third.leaves, third.bytes) == (3, tuple(leaf.name for leaf in features.cut.leaves), 0)
    assert str(second).startswith("epoch 1: conv3|norm3 trains, 483 values in all from ")


def test_features_that_are_kept_by_hand_are_carried_on_by_batch():
    """As tensors, they know no store."""
    one, other = prepared(), prepared()
    head, features = cached(one, images())
    rows, labels = features.gather(torch.arange(COUNT))

    history = train(head, (rows, labels), solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH))
    train(other, images(), solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH))

    assert same_weights(weights_of(one), weights_of(other))
    assert "only features of cache_features are kept" in history.stages[0].note


def test_a_schedule_that_cannot_be_followed_is_told_with_all_its_problems():
    """Nothing changes."""
    model = prepared()
    before = weights_of(model), frozen_names(model)
    schedule = {0: "layr3", 2: "conv1", 3: "conv3", 4: "conv3", 5: "drop3"}

    with pytest.raises(TrainError) as told:
        train(model, images(), solver=Steps(schedule=schedule, epochs=6, patience=2))

    for line in (
        "epoch 0 of the schedule: No layer matches the pattern 'layr3'",
        "epoch 2 of the schedule: conv1 is frozen. Freeze only layers that never train: in a job leave out [freeze]",
        "epoch 4 of the schedule: conv3 trains already",
        "epoch 5 of the schedule: drop3 has no parameters",
        "patience waits for a better validation: pass validation examples",
    ):
        assert line in str(told.value)
    assert same_weights(weights_of(model), before[0])
    assert frozen_names(model) == before[1]


def test_layers_that_were_frozen_when_the_features_were_cut_cannot_follow():
    """Unfreezing them afterwards does not bring them into the head."""
    model = prepared(schedule={0: "head"})
    head, features = cached(model, images())
    unfreeze(model, "conv3")

    with pytest.raises(
        TrainError, match=r"epoch 1 of the schedule: conv3 was frozen when the features were cut\. Freeze"
    ):
        train(head, features, solver=Steps(schedule={0: "head", 1: "conv3"}, epochs=2))


def test_what_no_entry_names_is_told():
    """It could train and does not."""
    model = prepared()
    before = weights_of(model)
    history = train(model, images(), solver=Steps(schedule={0: "head", 1: "norm3"}, epochs=2, batch_size=BATCH))
    assert history.notes[-1] == (
        "6 parameters that no entry of the schedule names did not train: conv2.weight, conv2.bias, norm2.weight"
    )
    assert torch.equal(model.conv2.weight, before["conv2.weight"])


class Noisy(nn.Linear):
    """Draws in evaluation too: it can be trained, not frozen and cached."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


def test_a_stage_for_which_the_model_cannot_be_split_is_named_with_a_way_out():
    """Before anything trains; without cached features the same schedule runs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), Noisy(8, 8), nn.ReLU(), nn.Linear(8, 3))
    freeze(model, "0")
    data = three_classes()
    trunk, head = split(model, data[0][:4])
    before = weights_of(model)

    with pytest.raises(
        TrainError, match=r"(?s)every stage.*  epoch 0 \(4\): 2 is frozen, but.*without cached features"
    ):
        train(head, cache_features(trunk, data), solver=Steps(schedule={0: "4", 1: "2"}, epochs=2))

    assert same_weights(weights_of(model), before)
    assert frozen_names(model) == ["0"]
    train(model, data, solver=Steps(schedule={0: "4", 1: "2"}, epochs=2))


def test_a_frozen_tensor_that_moves_is_told_at_the_end_of_its_stage():
    """Before another layer is unfrozen."""

    class Drifts(Net):
        def forward(self, x):
            with torch.no_grad():
                self.conv2.bias += 1e-3
            return super().forward(x)

    with pytest.raises(TrainError, match=r"1 frozen tensor changed during training: conv2\.bias"):
        train(prepared(Drifts), images(), solver=Steps(schedule=SCHEDULE, epochs=4, batch_size=BATCH))


def test_without_a_schedule_there_is_one_stage_and_nothing_is_told():
    """Training is what it was."""
    model = prepared()
    state = copy.deepcopy(model.state_dict())
    stages = Stages(model, images(), None, None, epochs=3, source=lambda data, device: None)
    with stages:
        assert 0 in stages
        assert 1 not in stages
        stages.enter(0)
    assert stages.begun == []
    assert same_weights(weights_of(model), state)


def test_a_schedule_with_something_else_than_patterns_is_told():
    with pytest.raises(TrainError, match="epoch 2 of the schedule: None is no pattern"):
        train(prepared(), images(), solver=Steps(schedule={0: "head", 2: None}, epochs=6))
