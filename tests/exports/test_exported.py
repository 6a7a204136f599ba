"""What an export is made from."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from regraft.errors import SaveError
from regraft.exports.exported import Exported
from regraft.inputs import InputContract
from regraft.model_record import ModelRecord


def test_facts_are_texts_and_only_those_that_are_known():
    """As the metadata of a file hold them."""
    record = ModelRecord(sha256="", inputs=InputContract(size=(4, 4)), classes=("a",))
    facts = Exported(Path(), nn.ReLU(), record, None).facts
    assert json.loads(facts["classes"]) == ["a"]
    assert json.loads(facts["inputs"])["size"] == [4, 4]
    assert Exported(Path(), nn.ReLU(), ModelRecord(sha256=""), None).facts == {}


def test_an_unknown_shape_is_asked_for():
    """In the words of both doors."""
    with pytest.raises(SaveError, match=r"--shape 3,224,224 for an image, in Python shape=\(3, 224, 224\)"):
        _ = Exported(Path("run"), nn.ReLU(), ModelRecord(sha256=""), None).known_example
    example = torch.zeros(2, 3)
    assert Exported(Path(), nn.ReLU(), ModelRecord(sha256=""), example).known_example is example
