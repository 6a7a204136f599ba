import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Subset, random_split

from regraft.caching import cache_features
from regraft.errors import DataError, TrainError
from regraft.evaluating import Score, evaluate
from regraft.learning.request import WeightedLoss
from regraft.splitting import split
from regraft.training import train
from small_models import features_of, frozen_model, head_of, three_classes


def test_a_head_on_features_scores_as_its_model_on_the_data():
    model = frozen_model()
    inputs, labels = three_classes()
    head = head_of(model)
    whole = evaluate(model, (inputs, labels))
    assert isinstance(whole, Score)
    assert evaluate(head, features_of(head, inputs, labels, batch_size=64)) == whole


def test_a_label_that_is_no_class_is_named():
    inputs, labels = three_classes()
    labels[80] = 3
    with pytest.raises(DataError, match="Example 80 has the label 3, and the model has 3 outputs"):
        evaluate(frozen_model(), (inputs, labels))


def test_an_empty_data_set_is_refused():
    with pytest.raises(DataError, match="The data set is empty"):
        evaluate(frozen_model(), (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))


def test_an_own_loss_is_used():
    got = evaluate(frozen_model(), three_classes(), loss=lambda outputs, labels: outputs.sum() * 0 + 2)
    assert got.loss == 2
    assert got.accuracy is not None


def test_a_whole_model_is_not_given_its_heads_features():
    """The other way round a head says so, too."""
    inputs, labels = three_classes()
    model = frozen_model()
    trunk, _ = split(model, inputs[:2])
    features = cache_features(trunk, (inputs, labels))
    with pytest.raises(TrainError, match=r"whole model cannot take cached features\.[\s\S]*the head that"):
        evaluate(model, features)
    with pytest.raises(TrainError, match="whole model cannot take cached features"):
        train(model, features)


PARTS = {
    "features": lambda features: features,
    "Subset": lambda features: Subset(features, range(30)),
    "gather": lambda features: features.gather(torch.arange(30)),
    "random_split": lambda features: random_split(features, [30, 60])[0],
}


@pytest.mark.parametrize("part", PARTS)
def test_stale_features_are_refused_by_evaluation_and_training(part):
    """In every form in which a part of them is passed."""
    model = frozen_model()
    head = head_of(model)
    features = features_of(head, *three_classes(), batch_size=30)
    evaluate(head, PARTS[part](features))
    with torch.no_grad():
        model.trunk[0].weight += 1
    for work in (evaluate, train):
        with pytest.raises(TrainError, match=r"do not belong to this model any more(.|\n)*trunk.0.weight"):
            work(head, PARTS[part](features))


def test_features_of_layers_that_were_unfrozen_and_not_trained_are_still_scored():
    """Their values are right; only training on them would have no effect."""
    model = frozen_model()
    head = head_of(model)
    features = features_of(head, *three_classes(), batch_size=30)
    model.trunk[0].weight.requires_grad_(True)
    evaluate(head, features)
    with pytest.raises(TrainError, match=r"changed or unfrozen: trunk.0.weight"):
        train(head, features)


def test_a_weighted_loss_is_evaluated_as_it_is_trained():
    """The loss over the set, each class by its weight, as torch's cross-entropy defines it."""
    torch.manual_seed(0)
    model, inputs, labels = nn.Linear(4, 3), torch.randn(30, 4), torch.arange(30) % 3
    weights = torch.tensor([1.0, 2.0, 0.5])
    got = evaluate(model, (inputs, labels), loss=WeightedLoss(class_weights=weights)).loss
    assert got == pytest.approx(F.cross_entropy(model(inputs), labels, weights).item(), rel=1e-5)


def test_weights_of_examples_are_refused():
    """They belong to the training examples."""
    loss = WeightedLoss(sample_weights=torch.ones(30))
    with pytest.raises(TrainError, match="sample_weights belong to training examples"):
        evaluate(nn.Linear(4, 3), (torch.randn(30, 4), torch.arange(30) % 3), loss=loss)
