import pytest
import torch

from regraft.caching import cache_features
from regraft.errors import DataError, TrainError
from regraft.evaluating import Score, evaluate
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
