"""Shards: tensors as bytes in the plain safetensors layout, and where each lies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, final

import torch
from torch import Tensor

from regraft.errors import CacheError
from regraft.tensors.fingerprints import as_bytes

DTYPE_WORDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64",
}  # fmt: skip
DTYPES = {word: dtype for dtype, word in DTYPE_WORDS.items()}


@final
@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in its shard: dtype word, shape, first byte and the byte after its last one."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return DTYPES[self.dtype].itemsize * prod(self.shape[1:])

    def rows(self, start: int, stop: int) -> tuple[int, int]:
        """The shard's bytes that hold rows start … stop - 1."""
        return self.start + start * self.row_bytes, self.start + stop * self.row_bytes


def layout_of(tensors: Mapping[str, Tensor]) -> tuple[bytes, dict[str, StoredTensor]]:
    """The shard's head (8 bytes of length, JSON) and where each tensor lies after it.

    Raises CacheError for a dtype that safetensors has no word for.
    """
    facts: dict[str, dict[str, Any]] = {}
    offset = 0
    # Wide dtypes first: every tensor then starts at a multiple of its item's size, as mapping needs.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in DTYPE_WORDS:
            raise CacheError(f"The feature {name} is {tensor.dtype}, which a safetensors shard cannot hold.")
        size = tensor.numel() * tensor.element_size()
        facts[name] = {
            "dtype": DTYPE_WORDS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(facts, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    head = len(text).to_bytes(8, "little") + text
    return head, _stored(facts, len(head))


def shard_chunks(
    head: bytes, tensors: Mapping[str, Tensor], stored: Mapping[str, StoredTensor]
) -> list[bytes | memoryview]:
    """The shard's bytes in pieces, in order; no copy of tensors that are contiguous in memory."""
    in_order = sorted(tensors, key=lambda name: (stored[name].start, stored[name].stop))
    return [head, *(as_bytes(tensors[name]).data for name in in_order if tensors[name].numel())]


def _stored(tensors: Mapping[str, Mapping[str, Any]], head_bytes: int) -> dict[str, StoredTensor]:
    return {
        name: StoredTensor(
            facts["dtype"], tuple(facts["shape"]), *(head_bytes + byte for byte in facts["data_offsets"])
        )
        for name, facts in tensors.items()
    }
