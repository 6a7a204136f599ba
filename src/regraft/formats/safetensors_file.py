"""safetensors files, one or many with an index: the header is JSON, the arrays follow back to back.

Parsed here rather than by the library, which maps whole files into memory and knows no bfloat16 in NumPy.
Source: safetensors format description, version 0.4 and later.
"""

import json
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.spans import Span, checked_size, decode
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.roles import with_roles

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
    "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
_LAYOUTS = {"pt": "torch", "tf": "tensorflow", "flax": "flax"}  # the header's own word for who wrote the file
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit
_INDEX_SUFFIX = ".safetensors.index.json"


@final
class Safetensors(Format):
    """A `.safetensors` file, a `*.safetensors.index.json`, or a folder that holds one such index."""

    name = "safetensors"
    layout = "torch"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the head is a safetensors header, or an index of shards belongs to `path`."""
        try:
            if path.is_dir():
                return bool(_indexes(path))
            if path.name.endswith(_INDEX_SUFFIX):
                return head.lstrip()[:1] == b"{"
            size = int.from_bytes(head[:8], "little")
            return len(head) >= 10 and head[8:9] == b"{" and size + 8 <= path.stat().st_size
        except OSError:
            return False

    def open(self, path: Path) -> Checkpoint:
        """The arrays of the file, or of all shards, each checked to lie inside its file and beside the others."""
        if path.is_dir():
            indexes = _indexes(path)
            if len(indexes) != 1:
                names = ", ".join(index.name for index in indexes)
                raise CheckpointError(f"{path} holds {len(indexes)} indexes of shards: {names}. Open one of them.")
            return self.open(indexes[0])
        if path.name.endswith(_INDEX_SUFFIX):
            files, arrays, writer = _open_shards(path)
        else:
            arrays, writer = _open_file(path)
            files = (path,)
        infos = with_roles({name: ArrayInfo(shape, dtype) for name, (dtype, shape, _) in arrays.items()})

        def read(name: str) -> np.ndarray:
            dtype, shape, span = arrays[name]
            return decode(span.read(), dtype, shape)

        return Checkpoint(path, self.name, _LAYOUTS.get(writer, self.layout), infos, read, files)


Stored = tuple[str, tuple[int, ...], Span]  # dtype, shape, where


def _indexes(folder: Path) -> list[Path]:
    return sorted(folder.glob("*" + _INDEX_SUFFIX))


def _open_shards(index: Path) -> tuple[tuple[Path, ...], dict[str, Stored], str]:
    """(index and shards, arrays of all shards, who wrote them). A shard that is missing or differs fails at once."""
    told = _json(index, Span(index, 0, index.stat().st_size).read())
    weight_map = told.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f'{index}: there is no "weight_map" from names to files. It is no index of shards.')
    names = sorted(set(weight_map.values()))
    outside = [name for name in names if Path(name).name != name or "\x00" in name]
    if outside:
        raise CheckpointError(
            f"{index}: refused to open {outside[0]!r}: a shard lies beside its index, never elsewhere."
        )
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index}: {len(missing)} of {len(names)} shards are missing: {', '.join(missing[:9])}.\n"
            "Fetch the whole folder."
        )
    shards = {name: _open_file(index.parent / name) for name in names}
    lost = [name for name, shard in weight_map.items() if name not in shards[shard][0]]
    if lost:
        raise CheckpointError(
            f"{index}: {len(lost)} arrays are not in the shard that the index names: {', '.join(lost[:5])}.\n"
            "Index and shards belong to different checkpoints."
        )
    arrays = {name: shards[shard][0][name] for name, shard in weight_map.items()}
    writers = {writer for _, writer in shards.values()}
    return (index, *(index.parent / name for name in names)), arrays, writers.pop() if len(writers) == 1 else ""


def _open_file(path: Path) -> tuple[dict[str, Stored], str]:
    """(the arrays of one file in the order in which they are stored, who wrote it)."""
    size = path.stat().st_size
    header_size = int.from_bytes(Span(path, 0, 8).read(), "little")
    if header_size > min(size - 8, _MOST_HEADER_BYTES):
        raise CheckpointError(
            f"{path}: the header claims {header_size} bytes, the file has {size}.\nIt is truncated or damaged: "
            "fetch it again."
        )
    header = _json(path, Span(path, 8, header_size).read())
    metadata = header.pop("__metadata__", {})
    arrays = {name: _stored(path, name, told, 8 + header_size) for name, told in header.items()}
    arrays = dict(sorted(arrays.items(), key=lambda item: (item[1][2].offset, item[1][2].size)))
    end = 8 + header_size
    for name, (_, _, span) in arrays.items():
        if span.offset != end:
            raise CheckpointError(
                f"{path}: {name} begins at byte {span.offset}, expected {end}: gaps and overlaps are refused."
            )
        end += span.size
    if end != size:
        raise CheckpointError(f"{path}: the arrays end at byte {end}, the file at {size}. It is truncated or damaged.")
    writer = metadata.get("format") if isinstance(metadata, dict) else None
    return arrays, writer if isinstance(writer, str) else ""


def _stored(path: Path, name: str, told: Any, start: int) -> Stored:
    """One array's entry of the header, checked."""
    try:
        dtype, shape, (first, last) = told["dtype"], tuple(told["shape"]), told["data_offsets"]
        numbers = (*shape, first, last)
        is_sound = isinstance(dtype, str) and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise CheckpointError(f"{path}: the header's entry for {name!r} is damaged: {str(told)[:200]}")
    size = checked_size(shape, DTYPES.get(dtype, dtype), path=path, name=name)
    if last - first != size:
        raise CheckpointError(
            f"{path}: {name} is {dtype} of shape {shape}, {size} bytes, but {last - first} bytes are stored.\n"
            "The header is damaged."
        )
    return DTYPES[dtype], shape, Span(path, start + first, size)


def _json(path: Path, content: bytearray) -> dict[str, Any]:
    """The JSON object; a name that comes twice is refused, since readers would differ on which one counts."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name comes twice")
        return dict(pairs)

    try:
        told = json.loads(content, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is no JSON: {error}.\nIt is damaged: fetch it again.") from error
    if not isinstance(told, dict):
        raise CheckpointError(f"{path}: the header is no JSON object. It is no safetensors file.")
    return told
