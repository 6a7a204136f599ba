"""The record of a saved model."""

import json

import pytest
from torch import nn

import regraft
from regraft.contracts.numbers import NumberContract
from regraft.contracts.preparation import Preparation
from regraft.contracts.text import TextContract, TextEncoder
from regraft.errors import SaveError
from regraft.inputs import InputContract
from regraft.model_record import read_record
from texts_on_disk import write_tokenizer


def test_the_preparation_of_every_kind_travels_with_the_model(tmp_path):
    """The tokenizer too: the folder can be moved, and replaced."""
    text = TextContract(str(write_tokenizer(tmp_path / "tokenizer")), 12)
    numbers = NumberContract(("age",), mean=(1.5,), std=(2.0,))
    given = Preparation(InputContract(8), text, numbers=numbers, arguments={"image": "x"})
    regraft.save(nn.Linear(2, 2), tmp_path / "a", inputs=given, classes=["x", "y"])
    (tmp_path / "tokenizer").rename(tmp_path / "elsewhere")
    (tmp_path / "a").rename(tmp_path / "b")

    read = read_record(tmp_path / "b").preparation_in(tmp_path / "b")

    assert (read.image, read.numbers, read.arguments) == (given.image, numbers, given.arguments)
    assert TextEncoder(read.text).encode(["the mat"])[0][0]["input_ids"].tolist() == [2, 5, 16, 17, 3]
    regraft.save(nn.Linear(2, 2), tmp_path / "b", overwrite=True)
    assert not (tmp_path / "b/tokenizer").exists()


def test_a_record_of_an_earlier_version_is_read(tmp_path):
    """It knows images alone."""
    regraft.save(nn.Linear(2, 2), tmp_path / "a", inputs=InputContract(8), classes=["x", "y"])
    path = tmp_path / "a/regraft.json"
    old = {key: value for key, value in json.loads(path.read_text()).items()
           if key in ("sha256", "record", "created", "inputs", "classes", "versions", "provenance")}  # fmt: skip
    path.write_text(json.dumps(old))
    record = read_record(tmp_path / "a")
    assert record.preparation_in(tmp_path / "a") == Preparation(InputContract(8))
    assert (record.target.task, record.target.classes) == (None, ("x", "y"))


def test_a_damaged_record_is_refused(tmp_path):
    """With the key."""
    (tmp_path / "regraft.json").write_text('{"sha256": "0", "numbers": {"columns": []}}')
    with pytest.raises(SaveError, match="numbers"):
        read_record(tmp_path)
