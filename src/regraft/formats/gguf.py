"""GGUF files of llama.cpp and its kin, in one file or split; quantised blocks become float32.

Source: ggml-org/ggml, docs/gguf.md.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint, Requirement
from regraft.containers.spans import Located, Span, located, mapped
from regraft.errors import CheckpointError, MissingLibraryError
from regraft.formats.format import Format
from regraft.formats.gguf_blocks import BLOCK_TYPES, PLAIN_TYPES, BlockType

_MAGIC = b"GGUF"
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_CODES = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_TEXT, _LIST = 8, 9
_DEEPEST = 8
_MOST_BYTES_OF_A_NAME = 1 << 16
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf$")
_EPS = (".attention.layer_norm_rms_epsilon", ".attention.layer_norm_epsilon")
# llama.cpp's converter reorders the rows of these models' queries and keys for its own rotary embedding.
_REORDERED = {"llama", "minicpm", "granite", "deci"}
# Its converter adds 1 to the norms of these, whose models keep the rest of 1 + w.
_PLUS_ONE = {"gemma", "gemma2", "gemma3", "nemotron", "qwen3next"}


@dataclass(frozen=True)
class Blocks:
    """A quantised array: blocks of elements that share a scale."""

    shape: tuple[int, ...]
    kind: BlockType
    number: int
    span: Span
    dtype: str = "float32"

    def read(self) -> np.ndarray:
        """The values as float32. Raises MissingLibraryError for a block format that only the gguf library unpacks."""
        blocks = np.frombuffer(self.span.read(), np.uint8).reshape(-1, self.kind.size_bytes)
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale gives infinities, which the plan refuses
            values = self.kind.unpack(blocks) if self.kind.unpack else self._by_library(blocks)
        return values.reshape(self.shape).astype(np.float32, copy=False)

    def _by_library(self, blocks: np.ndarray) -> np.ndarray:
        """The few formats that rest on large tables."""
        try:
            from gguf import GGMLQuantizationType, dequantize
        except ImportError as error:
            raise MissingLibraryError(
                f"{self.span.path} holds blocks of {self.kind.name}; the gguf library is needed to unpack them.\n"
                'Install it with: pip install "regraft[gguf]"'
            ) from error
        values: np.ndarray = dequantize(blocks, GGMLQuantizationType(self.number))
        return values


@final
class GGUF(Format):
    """`.gguf` of version 1 to 3, little-endian."""

    name = "gguf"
    layout = "torch"

    def recognises(self, path: Path, head: bytes) -> bool:
        """The magic."""
        return head.startswith(_MAGIC)

    def open(self, path: Path) -> Checkpoint:
        """The arrays with the last axis last, as torch has them, in the order of the file.

        GGUF lists axes the other way round: its first is the one that lies together.
        """
        files = _parts(path)
        arrays: dict[str, Located | Blocks] = {}
        facts: dict[str, object] = {}
        for file in files:
            header = _Header(file)
            facts |= header.facts()
            for name, array in header.arrays(facts.get("general.alignment", 32)):
                if name in arrays:
                    raise CheckpointError(f"{file}: two arrays are named {name!r}. The file is damaged.")
                arrays[name] = array
        architecture = str(facts.get("general.architecture", ""))
        infos = {name: _info(name, array, architecture) for name, array in arrays.items()}
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos, files=tuple(files),
            reader=lambda name: arrays[name].read(), requirements=tuple(_requirements(infos, facts, architecture)),
            notes=_notes(infos, architecture),
        )  # fmt: skip


def _parts(path: Path) -> list[Path]:
    """The files of a split checkpoint, in order. Raises CheckpointError when some are missing."""
    match = _PART.fullmatch(path.name)
    if not match or int(match[3]) < 2:
        return [path]
    files = [path.with_name(f"{match[1]}-{number:05}-of-{match[3]}.gguf") for number in range(1, int(match[3]) + 1)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(f"{path}: {len(missing)} of {len(files)} parts are missing: {', '.join(missing[:5])}.")
    return files


def _info(name: str, array: Located | Blocks, architecture: str) -> ArrayInfo:
    """The header's entry for an array."""
    notes = []
    if isinstance(array, Blocks):
        notes.append(f"dequantised from {array.kind.name}, a scale for each {array.kind.elements} values or fewer")
    if architecture in _REORDERED and re.search(r"\.attn_[qk]\.(weight|bias)$", name):
        notes.append("rows in the order of llama.cpp's rotary embedding, not in that of the original model")
    layer, _, leaf = name.rpartition(".")
    return ArrayInfo(array.shape, array.dtype, note="; ".join(notes), layer=layer, leaf=leaf)


def _requirements(
    infos: Mapping[str, ArrayInfo], facts: Mapping[str, object], architecture: str
) -> Iterator[Requirement]:
    """The eps of all norms, and what the converter changed in the values: rows of queries and keys, norms plus 1."""
    layers = dict.fromkeys(info.layer for info in infos.values())
    eps = next(filter(None, (facts.get(architecture + key) for key in _EPS)), None)
    if isinstance(eps, float):
        yield from (Requirement(layer, "eps", eps) for layer in sorted(layers) if layer.endswith("norm"))
    for layer in layers:
        yield from _changed_values(layer, facts, architecture)


def _changed_values(layer: str, facts: Mapping[str, object], architecture: str) -> Iterator[Requirement]:
    """What the converter did to the weights of the layer."""
    if architecture in _REORDERED and layer.endswith((".attn_q", ".attn_k")):
        yield Requirement(layer, "row_order", "rotary")
        yield from _heads(layer, facts, architecture)
    if architecture in _PLUS_ONE and layer.endswith("norm"):
        yield Requirement(layer, "norm_offset", 1)


def _heads(layer: str, facts: Mapping[str, object], architecture: str) -> Iterator[Requirement]:
    """The number of heads that a layer's rows hold; keys may have fewer than queries."""
    heads = facts.get(f"{architecture}.attention.head_count")
    if layer.endswith(".attn_k"):
        heads = facts.get(f"{architecture}.attention.head_count_kv", heads)
    if isinstance(heads, int):
        yield Requirement(layer, "num_heads", heads)


def _notes(infos: Mapping[str, ArrayInfo], architecture: str) -> tuple[str, ...]:
    """What a user must know of the whole file."""
    packed = sum("dequantised" in info.note for info in infos.values())
    notes = [f"{packed} of {len(infos)} arrays are quantised: their values are near those of the original."] * (
        packed > 0
    )
    if any("rotary" in info.note for info in infos.values()):
        notes.append(
            f"The converter for {architecture} reordered the rows of queries and keys: restore their order before use."
        )
    return tuple(notes)


class _Header:
    """A walk through the header: facts, then the list of arrays. Values of long lists are stepped over."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.position = path, mapped(path), 4
        if self.data[:4] != _MAGIC:
            raise self._damaged("it does not begin with GGUF")
        self.version = self._number(4)
        if self.version not in (1, 2, 3):
            big = self.version & 0xFFFF == 0
            raise CheckpointError(
                f"{path}: refused, GGUF of {'big-endian machines' if big else f'version {self.version}'} is not read."
            )
        self.wide = 4 if self.version == 1 else 8
        self.count, self.facts_left = self._number(self.wide), self._number(self.wide)

    def facts(self) -> dict[str, object]:
        """The facts that are single numbers or texts."""
        facts: dict[str, object] = {}
        while self.facts_left:
            self.facts_left -= 1
            key = self._text()
            facts[key] = self._value(self._number(4), 0)
        return facts

    def arrays(self, alignment: object) -> Iterator[tuple[str, Located | Blocks]]:
        """(name, array); the facts must have been read."""
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise self._damaged(f"values are aligned to {alignment!r} bytes")
        listed = []
        for _ in range(self.count):
            name, rank = self._text(), self._number(4)
            if rank > 8:
                raise self._damaged(f"{name!r} has {rank} dimensions")
            shape = tuple(self._number(self.wide) for _ in range(rank))[::-1]
            listed.append((name, shape, self._number(4), self._number(8)))
        start = -(-self.position // alignment) * alignment
        for name, shape, kind, offset in listed:
            yield name, self._array(name, shape, kind, start + offset)

    def _array(self, name: str, shape: tuple[int, ...], kind: int, offset: int) -> Located | Blocks:
        """The place of one array. Raises CheckpointError when it is not in the file."""
        if kind in PLAIN_TYPES:
            array: Located | Blocks = located(self.path, name, offset, shape, PLAIN_TYPES[kind])
        elif kind in BLOCK_TYPES:
            form = BLOCK_TYPES[kind]
            if not shape or shape[-1] % form.elements:
                raise self._damaged(f"{name!r} of shape {shape} does not divide into blocks of {form.elements}")
            size = prod(shape) // form.elements * form.size_bytes
            array = Blocks(shape, form, kind, Span(self.path, offset, size))
        else:
            raise CheckpointError(f"{self.path}: {name!r} has the type {kind}, which this reader does not know.")
        if offset + array.span.size > len(self.data):
            raise self._damaged(f"{name!r} ends at {offset + array.span.size} and the file at {len(self.data)}")
        return array

    def _value(self, kind: int, depth: int) -> object:
        """A single number or text; None for a list, which is stepped over."""
        if kind == _TEXT:
            return self._text(most=len(self.data))
        if kind in _SIZES:
            return np.frombuffer(self._raw(_SIZES[kind]), _CODES[kind])[0].item()
        if kind != _LIST or depth > _DEEPEST:
            raise self._damaged(f"a fact of the type {kind}")
        inner, count = self._number(4), self._number(self.wide)
        if inner in _SIZES:
            self._skip(count * _SIZES[inner])
            return None
        for _ in range(count):  # each takes at least four bytes, so that the file's end ends a forged count
            if inner == _TEXT:
                self._skip(self._number(self.wide))
            else:
                self._value(inner, depth + 1)
        return None

    def _text(self, most: int = _MOST_BYTES_OF_A_NAME) -> str:
        size = self._number(self.wide)
        if size > most:
            raise self._damaged(f"a name of {size} bytes")
        return bytes(self._raw(size)).decode("utf-8", errors="replace")

    def _number(self, size: int) -> int:
        return int.from_bytes(self._raw(size), "little")

    def _raw(self, size: int) -> bytes:
        self._skip(size)
        return self.data[self.position - size : self.position]

    def _skip(self, size: int) -> None:
        if self.position + size > len(self.data):
            raise self._damaged(f"{size} bytes at {self.position} reach beyond its end at {len(self.data)}")
        self.position += size

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: the GGUF file is damaged or cut short: {what}. Download it again.")
