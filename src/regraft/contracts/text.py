"""The contract of text inputs: how a text becomes the token numbers that the original model was trained on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from regraft.errors import DataError, JobError

IGNORED = -100  # the tag of a token that has none: a special token, or the second part of a word
UNLIMITED = 1_000_000  # tokenizers without a limit of their own record a larger number
Tokens = dict[str, Tensor]  # argument of the model → (tokens,) int64


@dataclass(frozen=True)
class TextContract:
    """The tokenizer of the original model, and how much of a text it takes.

    tokenizer   a local folder, as `tokenizer.save_pretrained` of transformers writes it; nothing is downloaded
    max_length  the most tokens of an example, longer ones are cut; None takes the tokenizer's own limit
    column      of a table: the text, or for tags per token the list of words
    pair        of a table: the second text of a pair; None for single texts
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    tokenizer: str
    max_length: Annotated[int, Field(ge=2, strict=True)] | None = None
    column: str = "text"
    pair: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class TextEncoder:
    """Encodes texts by the tokenizer of a contract.

    Raises JobError when the folder holds no tokenizer or transformers is missing. Executes no code of the folder.
    """

    def __init__(self, contract: TextContract) -> None:
        self.contract, self.path = contract, Path(contract.tokenizer)
        self.tokenizer = _tokenizer_in(self.path)

    @cached_property
    def max_length(self) -> int | None:
        """The most tokens of an example; None where neither the contract nor the tokenizer limits them."""
        own: int = self.tokenizer.model_max_length
        return self.contract.max_length or (own if own < UNLIMITED else None)

    @property
    def padding_id(self) -> int | None:
        """The token that fills up shorter texts; None where the tokenizer has none."""
        return self.tokenizer.pad_token_id  # type: ignore[no-any-return]  # transformers carries no types

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, special: bool = True
    ) -> tuple[list[Tokens], int]:
        """The tokens of each text, and how many texts were cut.

        special  with the tokenizer's special tokens; without them for a language model, which goes on with the text
        """
        given = list(texts), None if pairs is None else list(pairs)
        coded = self.tokenizer(*given, add_special_tokens=special, verbose=False)
        longest = self.max_length
        cut = 0 if longest is None else sum(len(ids) > longest for ids in coded["input_ids"])
        if cut:
            coded = self.tokenizer(*given, add_special_tokens=special, truncation=True, max_length=longest)
        return _rows(coded), cut

    def encode_words(
        self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[int]] | None = None
    ) -> tuple[list[Tokens], list[Tensor], list[list[int | None]], int]:
        """The tokens of each list of words, their tags, the word of each token, and how many lists were cut.

        tags     a tag for each word. The first token of a word has the word's tag, all others have -100
        returns  tags (tokens,) int64 for each list; the index of each token's word, None for special tokens

        Raises DataError for a tokenizer that does not record which word a token is part of.
        """
        if not self.tokenizer.is_fast:
            raise DataError(
                f"The tokenizer in {self.path} does not record which word a token is part of. Save a fast tokenizer "
                "(PreTrainedTokenizerFast) in the folder."
            )
        lists = [list(row) for row in words]
        longest = self.max_length
        whole = self.tokenizer(lists, is_split_into_words=True, verbose=False)
        cut = 0 if longest is None else sum(len(ids) > longest for ids in whole["input_ids"])
        coded = self.tokenizer(lists, is_split_into_words=True, truncation=True, max_length=longest) if cut else whole
        word_of = [coded.word_ids(row) for row in range(len(lists))]
        given = tags if tags is not None else [[IGNORED] * len(row) for row in lists]
        return _rows(coded), [_tags(*pair) for pair in zip(word_of, given, strict=True)], word_of, cut


def padding_of(contract: TextContract | None) -> dict[str, float] | None:
    """What shorter rows of token numbers end in, by argument; None where the tokenizer has no token for it."""
    padding = None if contract is None else TextEncoder(contract).padding_id
    return None if padding is None else {"input_ids": padding}


def save_tokenizer(contract: TextContract, folder: Path) -> None:
    """Write the contract's tokenizer into another folder. Raises JobError as `TextEncoder`."""
    TextEncoder(contract).tokenizer.save_pretrained(folder)


def _tags(word_of: Sequence[int | None], tags: Sequence[int]) -> Tensor:
    """The tag of each token: that of the word which begins with it."""
    firsts = [word is not None and (index == 0 or word_of[index - 1] != word) for index, word in enumerate(word_of)]
    values = [
        tags[word] if first and word is not None else IGNORED for word, first in zip(word_of, firsts, strict=True)
    ]
    return torch.tensor(values, dtype=torch.int64)


def _rows(coded: Any) -> list[Tokens]:
    names = list(coded.keys())
    columns = (coded[name] for name in names)
    return [
        {name: torch.tensor(values, dtype=torch.int64) for name, values in zip(names, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def _tokenizer_in(folder: Path) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise JobError("Texts are encoded by transformers; install it: pip install 'regraft[text]'") from error
    if not folder.is_dir():
        raise JobError(
            f"There is no tokenizer at {folder}. Save the model's own one there: "
            "AutoTokenizer.from_pretrained(…).save_pretrained(folder)."
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises what its readers raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JobError(f"{folder} holds no tokenizer that transformers can read: {reason}") from error
