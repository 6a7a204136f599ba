import gzip
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from regraft.errors import DataError, TrainError
from regraft.learning.batches import shuffled
from regraft.learning.linear_heads import PATH
from regraft.learning.solvers import Exact, Steps
from regraft.training import History, train
from shared import MNIST, SHARED, needs_shared
from small_models import (
    TwoParts,
    features_of,
    frozen_model,
    head_of,
    same_weights,
    three_classes,
    weights_of,
)


class PairByPair(Dataset):
    """A data set that is fetched example by example."""

    def __init__(self, inputs, labels):
        self.inputs, self.labels_of = inputs, labels

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.labels_of[index]


def test_a_head_on_features_ends_in_the_same_weights_as_its_model_on_the_data():
    """Losses, dropout's draws, BatchNorm's statistics and weights agree to the last bit at every epoch."""
    inputs, labels = three_classes(96)
    whole, split = frozen_model(), frozen_model()
    head = head_of(split)
    features = features_of(head, inputs, labels, batch_size=16)
    solver = Steps(epochs=3, batch_size=16, lr=0.01)

    uncached = train(whole, (inputs, labels), validation=(inputs, labels), solver=solver)
    cached = train(head, features, validation=features, solver=solver)

    assert cached.train_loss == uncached.train_loss
    assert cached.validation_loss == uncached.validation_loss
    assert same_weights(weights_of(whole), weights_of(split))


def test_a_data_set_fetched_one_by_one_trains_like_the_same_tensors():
    inputs, labels = three_classes()
    one, other = TwoParts(), TwoParts()

    by_tensor = train(one, (inputs, labels), solver=Steps(epochs=2))
    by_example = train(other, PairByPair(inputs, labels), solver=Steps(epochs=2))

    assert by_tensor.train_loss == by_example.train_loss
    assert same_weights(weights_of(one), weights_of(other))


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    """Whatever was drawn before: dropout's draws follow the seed too."""
    runs = []
    for seed in (5, 5, 6):
        torch.rand(1)
        runs.append(train(TwoParts(), three_classes(), solver=Steps(epochs=2), seed=seed).train_loss)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_the_callers_random_draws_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(TwoParts(), three_classes(), solver=Steps(epochs=1))
    assert torch.equal(torch.rand(2), expected)


def test_training_learns():
    history = train(TwoParts(), three_classes(), validation=three_classes(seed=1), solver=Steps(epochs=20, lr=0.01))
    assert history.train_loss[-1] < 0.3 * history.train_loss[0]
    assert history.validation_accuracy[-1] > 0.95


def test_the_modes_are_afterwards_what_they_were():
    model = TwoParts().eval()
    model.head.train()
    train(model, three_classes(), validation=three_classes(), solver=Steps(epochs=1))
    assert not model.training
    assert model.head.training
    assert not model.trunk.training


def test_a_given_order_is_followed():
    """Two epochs over chosen examples equal plain steps over them."""
    inputs, labels = three_classes()
    chosen = [[np.array([0, 1, 2]), np.array([4, 5])], [np.array([8, 7, 6])]]
    model, reference = nn.Linear(4, 3), nn.Linear(4, 3)
    reference.load_state_dict(model.state_dict())

    train(model, (inputs, labels), solver=Steps(epochs=2, optimizer="sgd", lr=0.1, order=lambda epoch: chosen[epoch]))

    descent = torch.optim.SGD(reference.parameters(), lr=0.1)
    for indices in (index for epoch in chosen for index in epoch):
        descent.zero_grad()
        nn.functional.cross_entropy(reference(inputs[indices]), labels[indices]).backward()
        descent.step()
    # torch's fused update multiplies and adds in one rounding, the plain one in two
    torch.testing.assert_close(model.weight, reference.weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("order", "told"),
    [([], "no batch"), ([[]], "an empty one"), ([[0, 90]], "has the index 90, and there are 90 examples: 0 to 89")],
)
def test_an_order_that_cannot_be_followed_is_refused(order, told):
    with pytest.raises(TrainError, match=told):
        train(TwoParts(), three_classes(), solver=Steps(order=lambda epoch: order))


def ruined_after(steps):
    """Gradient descent whose learning rate is good for so many steps, then far too large."""

    def make(parameters):
        descent = torch.optim.SGD(parameters, lr=0.05)
        good = iter([0.05] * (steps - 1))
        descent.register_step_post_hook(lambda *_: descent.param_groups[0].update(lr=next(good, 5.0)))
        return descent

    return make


def test_patience_goes_back_to_the_best_epoch():
    inputs, labels = three_classes()
    model, reference = TwoParts(), TwoParts()

    history = train(
        model,
        (inputs, labels),
        validation=(inputs, labels),
        solver=Steps(optimizer=ruined_after(6), epochs=20, patience=3),
    )
    train(reference, (inputs, labels), solver=Steps(optimizer=ruined_after(6), epochs=history.best_epoch + 1))

    assert history.epochs == history.best_epoch + 1 + 3 < 20
    assert history.validation_loss[history.best_epoch] == min(history.validation_loss)
    back = f"back to epoch {history.best_epoch}, counted from 0"
    assert history.stopped_because == f"no better validation loss for 3 epochs; {back}"
    assert same_weights(weights_of(model), weights_of(reference))


def test_without_patience_the_last_epochs_weights_stay():
    inputs, labels = three_classes()
    one, other = TwoParts(), TwoParts()
    history = train(one, (inputs, labels), solver=Steps(epochs=3))
    train(other, (inputs, labels), validation=(inputs, labels), solver=Steps(epochs=3))
    assert same_weights(weights_of(one), weights_of(other))
    assert history.stopped_because == "all 3 epochs were run"
    assert history.best_epoch is None


def test_a_loss_that_is_no_number_stops_at_its_step_and_the_weights_go_back():
    inputs, labels = three_classes()
    inputs[70] = float("nan")
    model = TwoParts()
    before = weights_of(model)
    order = [torch.arange(60), torch.arange(60, 90)]
    with pytest.raises(
        TrainError, match=r"The loss is nan at step 1 of epoch 0, both counted from 0; .*\nLower the learning rate"
    ):
        train(model, (inputs, labels), solver=Steps(order=lambda epoch: order))
    assert same_weights(before, weights_of(model))


def test_weights_that_leave_the_numbers_in_the_last_step_are_told():
    model = nn.Linear(4, 3)
    with pytest.raises(TrainError, match="weights are not finite after the last step of epoch 0"):
        train(model, three_classes(), solver=Steps(optimizer="sgd", lr=1e39, order=lambda epoch: [torch.arange(30)]))
    assert torch.isfinite(model.weight).all()


def test_an_interrupt_leaves_the_last_finished_epoch():
    inputs, labels = three_classes()
    model, reference = TwoParts(), TwoParts()

    def order(epoch):
        if epoch == 2:
            raise KeyboardInterrupt("enough")
        return shuffled(90, 32, seed=0)(epoch)

    with pytest.raises(KeyboardInterrupt, match="enough"):
        train(model, (inputs, labels), solver=Steps(order=order))
    train(reference, (inputs, labels), solver=Steps(epochs=2))
    assert same_weights(weights_of(model), weights_of(reference))


@pytest.mark.parametrize("wrap", [lambda x, y: (x, y), PairByPair], ids=["tensors", "one by one"])
def test_labels_beyond_the_classes_are_named_and_nothing_changes(wrap):
    inputs, labels = three_classes()
    labels[41] = 7
    model = TwoParts()
    before = weights_of(model)
    with pytest.raises(DataError, match=r"Example 41 has the label 7, and the model has 3 outputs: .* 0 to 2"):
        train(model, wrap(inputs, labels))
    assert same_weights(before, weights_of(model))


@pytest.mark.parametrize("wrap", [lambda x, y: (x, y), PairByPair], ids=["tensors", "one by one"])
def test_one_class_only_is_refused_and_nothing_changes(wrap):
    inputs, labels = three_classes()
    model = TwoParts()
    before = weights_of(model)
    with pytest.raises(DataError, match="All examples have the label 2: with one class only"):
        train(model, wrap(inputs, torch.full_like(labels, 2)))
    assert same_weights(before, weights_of(model))


def test_no_example_is_refused():
    with pytest.raises(DataError, match="The data set is empty"):
        train(TwoParts(), (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(TrainError, match="nothing to train: all parameters are frozen"):
        train(TwoParts().requires_grad_(False), three_classes())


def test_a_head_fed_by_plain_data_is_told_what_it_takes():
    with pytest.raises(TrainError, match="A head takes cached features, not a Tensor"):
        train(head_of(frozen_model()), three_classes())


def test_patience_and_several_rates_need_validation_and_both_problems_are_told():
    with pytest.raises(TrainError, match=r"patience waits for .*pass validation examples; several lr or weight_decay"):
        train(TwoParts(), three_classes(), solver=Steps(lr=[0.1, 0.2], patience=2))


def test_frozen_statistics_that_move_are_told_by_name():
    """requires_grad=False alone does not hold BatchNorm."""
    model = TwoParts()
    model.trunk.requires_grad_(False)
    with pytest.raises(TrainError, match=r"frozen tensors changed during training: trunk.1.running_mean"):
        train(model, three_classes(), solver=Steps(epochs=1))


def test_frozen_tensors_are_bit_identical_afterwards():
    model = frozen_model()
    before = weights_of(model)
    train(model, three_classes(), solver=Steps(epochs=2))
    after = weights_of(model)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("trunk."))
    assert not torch.equal(before["head.0.weight"], after["head.0.weight"])


def test_lower_precision_keeps_the_weights_in_their_own():
    model = TwoParts()
    history = train(model, three_classes(), solver=Steps(epochs=10, lr=0.01, precision="bfloat16"))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert history.train_loss[-1] < 0.7 * history.train_loss[0]


def test_a_loss_that_is_not_one_number_is_refused():
    with pytest.raises(TrainError, match=r"The loss has the shape \(2,\), expected one number"):
        train(TwoParts(), three_classes(), loss=nn.CrossEntropyLoss(reduction="none"))


def test_numbers_are_learnt_by_squared_difference():
    inputs, _ = three_classes()
    target = inputs.sum(1)
    history = train(
        nn.Linear(4, 1),
        (inputs, target),
        validation=(inputs, target),
        loss="mean_squared_error",
        solver=Steps(optimizer="sgd", lr=0.1, epochs=30),
    )
    assert history.validation_loss[-1] < 0.01
    assert history.validation_accuracy[-1] is None


def test_the_traced_step_and_the_eager_one_end_in_the_same_weights():
    """Which step ran is told."""
    traced, eager = TwoParts(), TwoParts()
    one = train(traced, three_classes(), solver=Steps(epochs=12))
    other = train(eager, three_classes(), solver=Steps(epochs=12, traced=False))
    assert one.train_loss == other.train_loss
    assert same_weights(weights_of(traced), weights_of(eager))
    assert one.notes[-1].endswith("operators, proven equal to the eager step")
    assert other.notes[-1] == "eager step, as passed"


def test_several_candidates_each_train_as_they_would_alone():
    """Weights, dropout's draws and BatchNorm's statistics are each candidate's own; the best by validation stays."""
    validation = three_classes(seed=1)
    model = TwoParts()
    history = train(
        model,
        three_classes(),
        validation=validation,
        solver=Steps(lr=[1e-3, 3e-2], weight_decay=[0.0, 0.1], epochs=8, batch_size=16),
    )
    assert [(told.lr, told.weight_decay) for told in history.candidates] == [
        (1e-3, 0.0), (1e-3, 0.1), (3e-2, 0.0), (3e-2, 0.1)
    ]  # fmt: skip
    best = min(history.candidates, key=lambda told: told.validation_loss[-1])
    assert (history.lr, history.weight_decay) == (best.lr, best.weight_decay)
    for told in history.candidates:
        alone = TwoParts()
        single = train(
            alone,
            three_classes(),
            validation=validation,
            solver=Steps(lr=told.lr, weight_decay=told.weight_decay, epochs=8, batch_size=16),
        )
        assert single.train_loss == told.train_loss
        assert single.validation_loss == told.validation_loss
        if told is best:
            assert same_weights(weights_of(alone), weights_of(model))


def test_candidates_stop_by_their_own_patience_and_failures():
    """One learning rate ruins its weights: the others go on."""
    history = train(
        nn.Linear(4, 3),
        three_classes(),
        validation=three_classes(seed=1),
        solver=Steps(optimizer="sgd", lr=[0.1, 1e39], epochs=4, patience=2),
    )
    good, ruined = history.candidates
    assert len(good.train_loss) == 4
    assert ruined.train_loss == ()
    assert ruined.stopped_because == "The loss is nan at step 1 of epoch 0, both counted from 0."
    assert history.lr == 0.1


def test_no_candidate_that_could_be_trained_is_told():
    model = nn.Linear(4, 3)
    before = weights_of(model)
    with pytest.raises(TrainError, match=r"No candidate could be trained:\n.*step 1 of epoch 0"):
        train(model, three_classes(), validation=three_classes(), solver=Steps(optimizer="sgd", lr=[1e39, 1e40]))
    assert same_weights(before, weights_of(model))


def test_a_linear_head_is_given_its_optimum_by_itself():
    inputs, labels = three_classes()
    model = nn.Linear(4, 3)
    history = train(model, (inputs, labels))
    assert history.solver == "lbfgs"
    assert history.weight_decay == 1 / 90
    assert history.stopped_because.startswith("at the optimum after ")
    assert history.notes == (
        "task: classification, because the labels are class numbers: outputs (batch, 3), labels (batch); "
        "loss: cross_entropy",
        "solver: Exact(), because the head is one linear layer under cross-entropy",
    )
    loss = nn.functional.cross_entropy(model(inputs), labels) + 0.5 / 90 * model.weight.square().sum()
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    assert max(float(part.abs().max()) for part in gradient) < 1e-3


def test_strengths_are_chosen_by_validation():
    model = nn.Linear(4, 3)
    history = train(model, three_classes(), validation=three_classes(seed=1))
    assert len(history.candidates) == len(PATH)
    best = min(history.candidates, key=lambda told: told.validation_loss)
    assert history.weight_decay == best.weight_decay
    assert history.validation_loss == best.validation_loss


def test_the_solver_that_is_passed_is_used_and_named():
    history = train(nn.Linear(4, 3), three_classes(), solver=Steps(epochs=2, lr=0.1))
    assert history.solver == "steps"
    assert history.notes[1] == "solver: Steps(lr=0.1, epochs=2), as passed"
    assert train(nn.Linear(4, 3), three_classes(), solver=Exact(weight_decay=0.1)).weight_decay == 0.1
    assert train(nn.Linear(4, 3), three_classes(), solver=[Exact(), Steps()]).solver == "lbfgs"


HEADS_THAT_ARE_NOT_LINEAR = pytest.mark.parametrize(
    ("model", "loss", "told"),
    [
        (TwoParts(), "cross_entropy", "more than one linear layer is trained"),
        (nn.Linear(4, 3), "mean_squared_error", "the loss is not plain cross-entropy"),
        (nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), "cross_entropy", "the model does more than its linear layer"),
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), "cross_entropy", "the model does more than its linear layer"),
    ],
)


@HEADS_THAT_ARE_NOT_LINEAR
def test_a_head_that_is_not_linear_is_refused_by_the_exact_solver_with_the_reason(model, loss, told):
    inputs, labels = three_classes()
    labels = labels if loss == "cross_entropy" else nn.functional.one_hot(labels, 3).float()
    with pytest.raises(TrainError, match=rf"cannot be used because {told}\.\nPass solver=Steps\(\) to train by"):
        train(model, (inputs, labels), loss=loss, solver=Exact())


def test_another_head_is_trained_by_steps_and_the_reason_is_named():
    history = train(TwoParts(), three_classes())
    assert history.epochs == 20
    assert history.notes[1] == "solver: Steps(), because more than one linear layer is trained"


def test_the_history_is_plain_data():
    history = train(TwoParts(), three_classes(), validation=three_classes(), solver=Steps(epochs=2))
    again = json.loads(json.dumps(history.to_dict()))
    assert again["epochs"] == 2 == len(again["seconds"])
    assert again["train_loss"] == list(history.train_loss)
    assert History(train_loss=(1.0,)).epochs == 1


class Chapter(nn.Module):
    """The new network of the book's chapter 11."""

    def __init__(self, arrays):
        super().__init__()
        self.layers = ["hidden1", "hidden2", "hidden3", "hidden4", "outputs"]
        for name in self.layers:
            kernel = torch.from_numpy(arrays[f"{name}/kernel"].T.copy())
            layer = nn.Linear(kernel.shape[1], kernel.shape[0])
            layer.weight.data, layer.bias.data = kernel, torch.from_numpy(arrays[f"{name}/bias"])
            self.add_module(name, layer)

    def forward(self, x):
        for name in self.layers[:-1]:
            x = torch.relu(self.get_submodule(name)(x))
        return self.outputs(x)


@needs_shared
def test_three_epochs_of_the_chapter_follow_tensorflow():
    """Same arrays, same batches, hidden1 and hidden2 frozen: TensorFlow's validation curve."""

    def pixels_or_labels(name, offset):
        return np.frombuffer(gzip.decompress((SHARED / "data" / "mnist" / name).read_bytes()), np.uint8, offset=offset)

    images = torch.from_numpy(pixels_or_labels("train-images-idx3-ubyte.gz", 16).reshape(-1, 784) / np.float32(255))
    labels = torch.from_numpy(pixels_or_labels("train-labels-idx1-ubyte.gz", 8).astype(np.int64))
    recorded = json.loads((MNIST / "side_by_side" / "chapter_records.json").read_text())["frozen"]
    model = Chapter(np.load(MNIST / "side_by_side" / "chapter_frozen_initial.npz"))
    for name in ("hidden1", "hidden2"):
        model.get_submodule(name).requires_grad_(False)
    random = np.random.RandomState(42)
    orders = [np.array_split(random.permutation(55000), 275) for _ in range(3)]

    history = train(
        model,
        (images[5000:], labels[5000:]),
        validation=(images[:5000], labels[:5000]),
        solver=Steps(epochs=3, batch_size=200, optimizer="sgd", lr=0.01, order=lambda epoch: orders[epoch]),
    )

    # 5e-5 holds over all 20 epochs: other order of sums in another matrix library (seen: 1.1e-5)
    np.testing.assert_allclose(history.validation_loss, recorded["valid_loss"][:3], atol=5e-5)
    np.testing.assert_allclose(history.validation_accuracy, recorded["valid_acc"][:3], atol=4e-4)
