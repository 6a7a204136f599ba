"""Fingerprints: short hashes that change when tensors, descriptions or examples change."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from regraft.errors import CacheError
from regraft.tensors.trees import Inputs, named_tensors

DIGEST_BLOCK = 1 << 15  # words whose products fit into a processor's cache
ID_BYTES = 16  # 128 bits of SHA-256: two of 10^12 different inputs share an id with probability 10^-15


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names; hexadecimal.

    Any device; one tensor at a time is copied to memory.
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(_header(name, tensor.dtype, tensor.shape))
        total.update(as_bytes(tensor).data)
    return total.hexdigest()


def digest_of(tensor: Tensor) -> str:
    """A digest of the tensor's bytes in row order: other bytes, other digest.

    Blocks of 64-bit words are summed up with a random odd factor for each place, modulo 2⁶⁴, and the sums hashed: one
    changed word always shows, several cancel with a chance of 2⁻⁶⁴. Four times quicker than SHA-256 over all bytes,
    and it runs where the tensor lies.
    """
    # NumPy has no bfloat16: the bytes are what counts.
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if raw.storage_offset() % 8:  # words have to start at whole words
        raw = raw.clone()
    words, rest = raw[: raw.numel() // 8 * 8].view(torch.int64), raw[raw.numel() // 8 * 8 :]
    factors = torch.randint(1 << 62, (DIGEST_BLOCK,), generator=torch.Generator().manual_seed(1)).mul_(2).add_(1)
    factors = factors.to(tensor.device)
    sums = [(block * factors[: len(block)]).sum() for block in torch.split(words, DIGEST_BLOCK)]
    summed = torch.stack(sums).cpu().numpy().tobytes() if len(words) else b""
    return hashlib.sha256(summed + rest.cpu().numpy().tobytes()).hexdigest()


def hash_description(description: object) -> str:
    """SHA-256 of plain data, whatever the order of its keys; hexadecimal.

    Raises CacheError when something in it is no plain data (numbers, strings, lists, dicts), for such a thing cannot
    be compared between two runs.
    """
    return hashlib.sha256(canonical_json(description).encode()).hexdigest()


def canonical_json(description: object) -> str:
    """The one JSON text of plain data: sorted keys, no spaces. Raises CacheError for what is no plain data."""
    try:
        return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=True)
    except TypeError as error:
        raise CacheError(
            f"A description of a trunk or a store is not plain data: {error}.\n"
            "Only numbers, strings, lists and dicts can be compared between two runs."
        ) from error


def input_ids(inputs: Inputs, count: int) -> np.ndarray:
    """An id for each row of a batch: a hash of the row's dtype, shape and bytes in every tensor of the inputs.

    inputs   a tensor, tuple or dict as the model takes it, `count` rows in each tensor
    returns  (count, ID_BYTES) uint8
    """
    prefix = hashlib.sha256()
    columns = []
    for path, tensor in _hashed(inputs):
        if len(tensor) != count:
            raise CacheError(f"The input {path or 'tensor'} has {len(tensor)} rows in a batch of {count} examples.")
        prefix.update(_header(path, tensor.dtype, tensor.shape[1:]))
        columns.append(as_bytes(tensor).reshape(count, -1))
    ids = np.empty((count, ID_BYTES), np.uint8)
    for row in range(count):
        total = prefix.copy()
        for column in columns:
            total.update(column[row])
        ids[row] = np.frombuffer(total.digest(), np.uint8, ID_BYTES)
    return ids


def _hashed(inputs: Inputs) -> list[tuple[str, Tensor]]:
    """The inputs' tensors by their path. Raises CacheError when something else is among them."""
    try:
        return list(named_tensors(inputs))
    except TypeError as error:
        raise CacheError(
            f"The input of an example cannot be hashed: {error} Return only tensors as the input of an example."
        ) from error


def named_ids(names: Iterable[str]) -> np.ndarray:
    """An id for each name: (count, ID_BYTES) uint8."""
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:ID_BYTES] for name in names)
    return np.frombuffer(digests, np.uint8).reshape(-1, ID_BYTES)


def as_bytes(tensor: Tensor) -> np.ndarray:
    """The tensor's bytes in memory: (size,) uint8; no copy when it lies contiguous in memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()


def _header(name: str, dtype: torch.dtype, shape: Sequence[int]) -> bytes:
    return f"{name}\0{dtype}\0{tuple(shape)}\0".encode()
