"""safetensors files: the header is JSON, the arrays follow back to back.

Parsed here rather than by the library, which maps whole files into memory and knows no bfloat16 in NumPy.
Source: safetensors format description, version 0.4 and later.
"""

from pathlib import Path
from typing import Any, final

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.json_text import JsonObject, json_object
from regraft.containers.spans import Located, Span, located
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.roles import with_roles
from regraft.formats.writers import layout_by_word

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
    "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit
_LEAST_BYTES_OF_A_BRACKET, _FREE_BYTES = 10, 4096


@final
class Safetensors(Format):
    """A `.safetensors` file; the index of several is read by `index_of_shards`."""

    name = "safetensors"
    layout = "torch"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the file begins with the size of a header that is a JSON object."""
        try:
            size = int.from_bytes(head[:8], "little")
            return len(head) >= 10 and head[8:9] == b"{" and size + 8 <= path.stat().st_size
        except OSError:
            return False

    def open(self, path: Path) -> Checkpoint:
        """The arrays in the order in which they are stored, each checked to lie inside the file."""
        header, start = _header(path)
        metadata = header.pop("__metadata__", {})
        arrays = _arrays(path, header, start)
        infos = with_roles({name: ArrayInfo(array.shape, array.dtype) for name, array in arrays.items()})
        writer = metadata.get("format") if isinstance(metadata, dict) else None
        return Checkpoint(
            path, self.name, layout_by_word(writer, infos), infos, lambda name: arrays[name].read(), (path,)
        )


def _header(path: Path) -> tuple[JsonObject, int]:
    """(the header, where the arrays begin)."""
    size = path.stat().st_size
    header_size = int.from_bytes(Span(path, 0, 8).read(), "little")
    if header_size > min(size - 8, _MOST_HEADER_BYTES):
        raise CheckpointError(
            f"{path}: the header claims {header_size} bytes, the file has {size}.\nIt is truncated or damaged: "
            "download it again."
        )
    header = Span(path, 8, header_size).read()
    # An entry of an array takes 50 bytes and three brackets; empty objects would take 25 times the file's memory.
    if (header.count(b"{") + header.count(b"[")) * _LEAST_BYTES_OF_A_BRACKET > header_size + _FREE_BYTES:
        raise CheckpointError(f"{path}: the header is no list of arrays: it holds too many brackets. It is damaged.")
    return json_object(header, path, "the header"), 8 + header_size


def _arrays(path: Path, header: JsonObject, start: int) -> dict[str, Located]:
    """The arrays in the order in which they are stored. Raises CheckpointError for gaps, overlaps and a cut end."""
    arrays = {name: _array(path, name, entry, start) for name, entry in header.items()}
    arrays = dict(sorted(arrays.items(), key=lambda item: (item[1].span.offset, item[1].span.size)))
    end = start
    for name, array in arrays.items():
        if array.span.offset != end:
            raise CheckpointError(
                f"{path}: {name} begins at byte {array.span.offset}, expected {end}: gaps and overlaps are refused."
            )
        end += array.span.size
    size = path.stat().st_size
    if end != size:
        raise CheckpointError(f"{path}: the arrays end at byte {end}, the file at {size}. It is truncated or damaged.")
    return arrays


def _array(path: Path, name: str, entry: Any, start: int) -> Located:
    """One array's entry of the header, checked.  start  where the arrays begin"""
    try:
        dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        is_sound = isinstance(dtype, str) and all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, first, last))
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise CheckpointError(f"{path}: the header's entry for {name!r} is damaged: {str(entry)[:200]}")
    array = located(path, name, start + first, shape, DTYPES.get(dtype, dtype))
    if last - first != array.span.size:
        raise CheckpointError(
            f"{path}: {name} is {dtype} of shape {shape}, {array.span.size} bytes, but {last - first} bytes are "
            "stored.\nThe header is damaged."
        )
    return array
