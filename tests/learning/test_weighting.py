"""Examples with a weight each."""

import pytest
import torch

from regraft.errors import DataError
from regraft.examples import TensorExamples, as_examples
from regraft.learning.losses import WeightedLabels
from regraft.learning.weighting import weighted
from small_models import features_of, frozen_model, head_of, three_classes


def test_weights_go_with_their_examples():
    inputs, labels = three_classes(6)
    rows = list(zip(inputs, labels.tolist(), strict=True))
    features = features_of(head_of(frozen_model()), inputs, labels, batch_size=64)
    for data in (TensorExamples(inputs, labels), as_examples(rows), features):
        _, got = weighted(data, [0, 1, 2, 3, 4, 5]).gather(torch.tensor([4, 1]))
        assert isinstance(got, WeightedLabels)
        assert got.weights.tolist() == [4, 1]
        assert torch.equal(got.labels, labels[[4, 1]])


@pytest.mark.parametrize(
    ("weights", "text"), [([1.0], r"shape \(1,\), expected one for each of 6"), ([-1.0] * 6, "negative number")]
)
def test_weights_that_do_not_fit_are_refused(weights, text):
    with pytest.raises(DataError, match=text):
        weighted(TensorExamples(*three_classes(6)), weights)
