import pytest
import torch

from regraft.errors import DataError
from regraft.evaluating import Score, evaluate
from small_models import PartHead, features_of, frozen_model, three_classes


def test_a_head_on_features_scores_as_its_model_on_the_data():
    model = frozen_model()
    inputs, labels = three_classes()
    features = features_of(model, inputs, labels, batch_size=64)
    whole = evaluate(model, (inputs, labels))
    assert isinstance(whole, Score)
    assert evaluate(PartHead(model), features) == whole


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
