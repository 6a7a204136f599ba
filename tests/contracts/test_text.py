"""Texts as token numbers."""

import pytest

from regraft.contracts.text import TextContract, TextEncoder, save_tokenizer
from regraft.errors import DataError, JobError
from texts_on_disk import write_tokenizer


@pytest.fixture
def folder(tmp_path):
    """A tokenizer that takes 8 tokens at most."""
    return write_tokenizer(tmp_path / "tokenizer", max_length=8)


def test_texts_are_encoded_as_the_tokenizer_does(folder):
    """With its special tokens, unpadded; a pair has two segments."""
    encoder = TextEncoder(TextContract(str(folder)))
    (first, second), cut = encoder.encode(["the cat sat", "a dog"])
    assert first["input_ids"].tolist() == encoder.tokenizer("the cat sat")["input_ids"] == [2, 5, 6, 7, 3]
    assert (second["attention_mask"].tolist(), cut, encoder.padding_id) == ([1, 1, 1, 1], 0, 0)
    ((pair,), _) = encoder.encode(["a cat"], ["a dog"])
    assert pair["input_ids"].tolist() == [2, 9, 6, 3, 9, 10, 3]


@pytest.mark.parametrize(("limit", "longest"), [(None, 8), (4, 4)])
def test_long_texts_are_cut_and_counted(folder, limit, longest):
    """At the contract's limit, or at the tokenizer's own."""
    rows, cut = TextEncoder(TextContract(str(folder), limit)).encode(["the cat " * 9, "a"])
    assert (len(rows[0]["input_ids"]), len(rows[1]["input_ids"]), cut) == (longest, 3, 1)


def test_the_first_token_of_a_word_has_its_tag(folder):
    """Special tokens and the rest of a word have -100."""
    encoder = TextEncoder(TextContract(str(folder)))
    tokens, tags, word_of, cut = encoder.encode_words([["a", "mat", "ran"]], [[4, 5, 6]])
    assert len(tokens[0]["input_ids"]) == 6
    assert tags[0].tolist() == [-100, 4, 5, -100, 6, -100]
    assert (word_of, cut) == ([[None, 0, 1, 1, 2, None]], 0)


def test_a_saved_tokenizer_encodes_the_same(folder, tmp_path):
    """Also one that was saved again."""
    save_tokenizer(TextContract(str(folder)), tmp_path / "copy")
    rows = [TextEncoder(TextContract(str(path))).encode(["the mat"])[0][0] for path in (folder, tmp_path / "copy")]
    assert rows[0]["input_ids"].tolist() == rows[1]["input_ids"].tolist()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    """With the way to write one."""
    with pytest.raises(JobError, match=r"There is no tokenizer at .*none\. .*save_pretrained\(folder\)"):
        TextEncoder(TextContract(str(tmp_path / "none")))
    with pytest.raises(JobError, match="holds no tokenizer that transformers can read"):
        TextEncoder(TextContract(str(tmp_path)))


def test_a_slow_tokenizer_cannot_tag_words(folder):
    """It does not record which word a token is part of."""
    encoder = TextEncoder(TextContract(str(folder)))
    encoder.tokenizer = type("Slow", (), {"is_fast": False})()
    with pytest.raises(DataError, match="does not record which word"):
        encoder.encode_words([["a"]])
