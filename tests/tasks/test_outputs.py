"""The tensor that carries the answer."""

from types import SimpleNamespace

import pytest
import torch

from regraft.errors import TrainError
from regraft.tasks.outputs import find_logits, find_output, logits_of

LOGITS = torch.zeros(2, 3)


@pytest.mark.parametrize("outputs", [LOGITS, {"logits": LOGITS}, SimpleNamespace(logits=LOGITS)])
def test_the_answer_is_the_output_itself_or_what_is_named_logits(outputs):
    assert logits_of(outputs) is LOGITS


def test_outputs_without_logits_are_refused():
    assert find_logits((LOGITS, LOGITS)) is None
    with pytest.raises(TrainError, match="returns a tuple without a tensor named `logits`"):
        logits_of((LOGITS, LOGITS))


def test_parts_are_found_by_key_attribute_and_index():
    for outputs, name in (({"age": LOGITS}, "age"), (SimpleNamespace(age=LOGITS), "age"), ((1, LOGITS), "1")):
        assert find_output(outputs, name) is LOGITS
    assert find_output((LOGITS,), "3") is None
    assert find_output({"age": "text"}, "age") is None
