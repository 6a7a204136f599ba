import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, random_split

from regraft.caching import cache_features
from regraft.errors import DataError, TrainError
from regraft.evaluating import evaluate
from regraft.freezing import freeze
from regraft.learning.learner import Learner
from regraft.learning.solvers import Steps
from regraft.splitting import split
from regraft.training import train
from small_models import TwoParts, frozen_model, head_of, same_weights, three_classes, weights_of


def test_a_model_is_called_by_the_kind_of_its_inputs():
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    learner, one = Learner(Sum()), torch.ones(2)
    assert torch.equal(learner.outputs((one, one)), 2 * one)
    assert torch.equal(learner.outputs({"a": one, "b": 3 * one}), 4 * one)


def test_a_head_gets_its_features_as_one_dict():
    model = frozen_model().eval()
    inputs, _ = three_classes()
    head = head_of(model)
    assert torch.equal(Learner(head).outputs(head.trunk(inputs)), model(inputs))


def test_what_is_neither_model_nor_head_is_refused():
    with pytest.raises(TrainError, match=r"A str cannot be trained or scored. Pass a torch.nn.Module, or the head"):
        Learner("resnet18")


def test_parameters_are_the_trainable_ones_each_once():
    model = frozen_model()
    model.again = model.head
    assert Learner(model).parameters == Learner(head_of(model)).parameters == tuple(model.head.parameters())


def test_frozen_tensors_are_parameters_and_statistics_of_frozen_layers():
    names = Learner(frozen_model()).frozen_tensors()
    assert names.keys() == {name for name in frozen_model().state_dict() if name.startswith("trunk.")}


def test_statistics_of_a_layer_frozen_by_hand_count_as_frozen():
    model = TwoParts()
    model.trunk.requires_grad_(False)
    assert "trunk.1.running_mean" in Learner(model).frozen_tensors()


def test_statistics_of_a_layer_that_stays_in_eval_mode_count_as_frozen():
    """BatchNorm without parameters of its own: only its mode tells."""
    model = TwoParts()
    model.trunk[1] = nn.BatchNorm1d(8, affine=False)
    freeze(model, "trunk")
    assert "trunk.1.running_mean" in Learner(model).frozen_tensors()


def test_looking_for_frozen_tensors_leaves_the_modes():
    model = TwoParts().eval()
    Learner(model).frozen_tensors()
    assert not any(layer.training for layer in model.modules())


def test_a_state_brings_back_weights_and_statistics():
    model = TwoParts()
    learner, before = Learner(model), weights_of(model)
    state = learner.state()
    with torch.no_grad():
        model(three_classes()[0])
        for parameter in model.parameters():
            parameter.add_(1)
    assert not same_weights(before, weights_of(model))
    learner.restore(state)
    assert same_weights(before, weights_of(model))


def test_a_head_may_take_the_features_of_a_shallower_cut():
    """The part between the two cuts is computed for each batch."""
    model = frozen_model()
    head, (inputs, _) = head_of(model.eval()), three_classes()
    freeze(model, r"head\.[01]")
    part, deeper = head.recut()
    features = head.trunk(inputs)
    assert torch.equal(Learner(deeper, part).outputs(features), Learner(deeper).outputs(part(features)))


PARTS = {
    "whole": lambda features: features,
    "subset": lambda features: features.subset(torch.arange(20)),
    "pair": lambda features: features.gather(torch.arange(20)),
    "torch's Subset": lambda features: Subset(features, range(20)),
    "random split": lambda features: random_split(features, [20, len(features) - 20])[0],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_part_of_features_of_other_weights_is_refused(part):
    """In training, and in scoring; of the same weights all are taken."""
    model = frozen_model()
    inputs, labels = three_classes()
    trunk, head = split(model, inputs[:4])
    data = part(cache_features(trunk, (inputs, labels)))
    train(head, data, solver=Steps(epochs=1))
    evaluate(head, data)

    with torch.no_grad():
        model.trunk[0].weight[0, 0] += 1e-3

    with pytest.raises(TrainError, match=r"do not belong to this model any more.*trunk.0.weight"):
        train(head, data, solver=Steps(epochs=1))
    with pytest.raises(TrainError, match=r"do not belong to this model any more.*trunk.0.weight"):
        evaluate(head, data)


class Words(nn.Module):
    """Classes from the mean of all places, or of those that hold a word."""

    def __init__(self, masked):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.last, self.masked = nn.Embedding(9, 6), nn.Linear(6, 3), masked

    def forward(self, ids):
        words = self.table(ids)
        if not self.masked:
            return self.last(words.mean(1))
        kept = (ids > 0)[..., None]
        return self.last((words * kept).sum(1) / kept.sum(1))


class Texts(Dataset):
    """Twelve texts of different lengths."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.arange(1, 3 + index % 5), index % 3


@pytest.mark.parametrize("work", [evaluate, lambda model, data: train(model, data, solver=Steps(epochs=1))])
def test_a_whole_model_whose_outputs_depend_on_the_padding_is_refused(work):
    """The shortest text of a batch is computed alone. A model that masks the padding is trained and scored."""
    with pytest.raises(DataError, match=r"(?s)outputs for a short example depend on the padding.*a mask of the"):
        work(Words(masked=False), Texts())
    work(Words(masked=True), Texts())


class LastToken(nn.Module):
    """Embeddings, then the state at the last position of the batch: another one for texts that are filled up."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, input_ids):
        return self.head(self.table(input_ids)[:, -1])


def test_a_head_whose_outputs_depend_on_the_padding_is_refused():
    """The trunk gives each token by itself; the head takes the last position of whatever stands there."""
    rows = [({"input_ids": torch.randint(1, 9, (3 + index % 4,))}, index % 2) for index in range(12)]
    model = LastToken()
    freeze(model, "table")
    trunk, head = split(model, input_ids=torch.randint(1, 9, (2, 5)), at="table")
    features = cache_features(trunk, rows)
    with pytest.raises(DataError, match=r"head's outputs for a short example depend on the padding[\s\S]*Pass pad="):
        Learner(head).refuse_padding(features)
    Learner(head).refuse_padding(features.subset(torch.tensor([0, 4, 8])))
