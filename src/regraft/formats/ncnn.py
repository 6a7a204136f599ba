"""ncnn's `.bin`: numbers without names or shapes, which the network's `.param` beside the file records."""

from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint, Role
from regraft.containers.spans import Located, Span, decoded_array, located
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.ncnn_network import MAGIC, NcnnArray, read_ncnn_network

# The four bytes before an array: how its values are stored. 0 and float32 are the same.
_FLOAT16, _INT8, _FLOAT32 = 0x01306B47, 0x000D4B38, 0x0002C056
_TABLE_BYTES = 4 * 256


@final
class Ncnn(Format):
    """`.param` and `.bin` of one name."""

    name = "ncnn"
    layout = "ncnn"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A `.param` begins with ncnn's number; a `.bin` is ncnn's where such a `.param` lies beside it."""
        if head.startswith(MAGIC.encode()):
            return True
        param = path.with_suffix(".param")
        return path.suffix == ".bin" and param.is_file() and _begins_as_param(param)

    def open(self, path: Path) -> Checkpoint:
        """The arrays in the order of the file, named `layer/leaf`."""
        param, weights = path.with_suffix(".param"), path.with_suffix(".bin")
        if path.suffix not in (".param", ".bin"):
            param, weights = path, path.with_name(f"{path.name}.bin")
        for part in (param, weights):
            if not part.is_file():
                raise CheckpointError(f"{path}: {part.name} is not beside it: ncnn keeps a network in two files.")
        network = read_ncnn_network(param)
        infos: dict[str, ArrayInfo] = {}
        readers: dict[str, Callable[[], np.ndarray]] = {}
        end = 0
        for array in network.stored:
            name = f"{array.layer}/{array.leaf}"
            if name in infos:
                raise CheckpointError(f"{param}: two layers are named {array.layer}.")
            infos[name], readers[name], end = _array(weights, array, name, end)
        size = weights.stat().st_size
        if end != size:
            raise CheckpointError(
                f"{weights}: the network of {param.name} needs {end:,} bytes, the file has {size:,}.\n"
                "It is truncated, or the .param is that of another network."
            )
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos, reader=lambda name: readers[name](),
            files=(param, weights), requirements=tuple(network.wiring),
        )  # fmt: skip


def _begins_as_param(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC.encode()


def _array(path: Path, array: NcnnArray, name: str, start: int) -> tuple[ArrayInfo, Callable[[], np.ndarray], int]:
    """(what is known of the array at `start`, how to read it, where the next begins)."""
    role: Role = "constant" if array.layer_type == "Constant" else "weight"
    tag = _tag(path, start) if array.is_tagged else 0
    start += 4 * array.is_tagged
    if tag == _INT8:
        raise CheckpointError(f"{path}: {name} is int8, which is not read. Open the file from before ncnn2int8.")
    dtype = "float16" if tag == _FLOAT16 else "float32"
    note = "" if tag in (0, _FLOAT16, _FLOAT32) else "from a table of 256 values"
    info = ArrayInfo(array.shape, dtype, role, array.layer_type, note, array.layer, array.leaf)
    if note:
        codes = located(path, name, start + _TABLE_BYTES, array.shape, "uint8")
        return info, lambda: _from_table(path, start, codes), _aligned(codes.span)
    stored = located(path, name, start, array.shape, dtype)
    return info, stored.read, _aligned(stored.span)


def _aligned(span: Span) -> int:
    """Where the array behind this one begins: at a multiple of four bytes from it."""
    return span.offset + -(-span.size // 4) * 4


def _tag(path: Path, start: int) -> int:
    return int.from_bytes(Span(path, start, 4).read(), "little")


def _from_table(path: Path, start: int, codes: Located) -> np.ndarray:
    values = decoded_array(Span(path, start, _TABLE_BYTES).read(), "float32", (256,))
    return np.take(values, codes.read())
