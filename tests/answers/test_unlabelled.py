"""Inputs without labels."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.test_sound import write_wave
from regraft.answers.unlabelled import batches_of, open_inputs
from regraft.contracts.numbers import NumberContract
from regraft.contracts.preparation import Preparation
from regraft.contracts.sound import SoundContract
from regraft.contracts.text import TextContract
from regraft.datasets.labelled import Target
from regraft.errors import DataError
from regraft.inputs import InputContract
from texts_on_disk import write_tokenizer

AGE = NumberContract(("age",), mean=(10.0,), std=(2.0,))


def opened(paths, preparation, target=Target("classification")):  # noqa: B008  # frozen
    return open_inputs(paths, preparation, target, lambda line: None)


@pytest.fixture
def text(tmp_path):
    return Preparation(text=TextContract(str(write_tokenizer(tmp_path / "tokenizer"))))


def test_rows_of_a_table_are_prepared_as_in_training(tmp_path):
    """Several kinds together, numbers on the recorded scale; no column of labels is needed."""
    Image.new("RGB", (3, 3), "white").save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,age\na.png,14\n")
    (examples,) = opened([tmp_path / "t.csv"], Preparation(InputContract((2, 2)), numbers=AGE))
    inputs = examples.read(0)
    assert (inputs["image"].shape, inputs["numbers"].tolist(), len(examples)) == ((3, 2, 2), [2.0], 1)


def test_lines_of_a_text_file_are_examples(tmp_path, text):
    """Without the empty ones."""
    (tmp_path / "a.txt").write_text("the cat\n\na dog ran\n")
    (examples,) = opened([tmp_path / "a.txt"], text)
    assert [name[-8:] for name in examples.names] == ["a.txt[0]", "a.txt[1]"]
    assert examples.read(1)["input_ids"].tolist() == [2, 9, 10, 11, 3]


def test_lists_of_words_keep_the_place_of_each_word(tmp_path, text):
    """For a tag at each."""
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": ["a", "mat"]}))
    (examples,) = opened([tmp_path / "t.jsonl"], text)
    assert (examples.words, examples.word_of) == ([["a", "mat"]], [[None, 0, 1, 1, None]])


def test_sounds_of_a_folder_are_read(tmp_path):
    """As waveforms."""
    write_wave(tmp_path / "a.wav", 2)
    (examples,) = opened([tmp_path], Preparation(sound=SoundContract(8000)))
    assert examples.read(0).shape == (400,)


def test_batches_hold_examples_of_one_size(tmp_path, text):
    """Nothing is padded, so no answer depends on its neighbours."""
    (tmp_path / "a.txt").write_text("the cat\na\nthe dog\n")
    (examples,) = opened([tmp_path / "a.txt"], text)
    batches = list(batches_of(examples, 3, None))
    assert [indices for indices, _ in batches] == [[0, 2], [1]]
    assert batches[0][1]["input_ids"].shape == (2, 4)


def test_tokens_in_an_array_stay_whole_numbers(tmp_path):
    """Where each has a class."""
    np.savez(tmp_path / "a.npz", x=np.array([[1, 2]]))
    (examples,) = opened([tmp_path / "a.npz"], Preparation(), Target("token-classification"))
    assert examples.read(0).dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "preparation", "words"),
    [
        ("a.png", Preparation(numbers=AGE), "The model takes numbers, and .*a.png is none"),
        ("a.png", Preparation(InputContract(), numbers=AGE), "takes image and numbers, and .* is a single file"),
        ("a.csv", Preparation(), "saved without an input contract, so inputs such as .*a.csv cannot be prepared"),
        ("a.txt", Preparation(InputContract()), "a.txt is text, and the model takes image"),
    ],
)
def test_inputs_that_the_model_was_not_trained_on_are_refused(tmp_path, name, preparation, words):
    """Never guessed."""
    (tmp_path / name).write_text("age\n1\n")
    with pytest.raises(DataError, match=words):
        opened([tmp_path / name], preparation)
