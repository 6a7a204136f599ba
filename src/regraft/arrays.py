"""Named arrays: what a checkpoint tells of each array before it is read, and how it is read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal, final

import numpy as np

from regraft.errors import CheckpointError
from regraft.foundation.showing import html_table
from regraft.foundation.wording import counted, near_names, shape_text

# "constant": a number of the graph itself, such as a shape or the bounds of a slice.
Role = Literal["weight", "optimizer_slot", "ema", "counter", "constant"]

# Four bits take one byte each, once they are unpacked.
ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "float4_e2m1fn": 1, "int4": 1, "uint4": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1,
    "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip


@dataclass(frozen=True)
class ArrayInfo:
    """What the file tells of one array.

    shape       as stored; () is a scalar
    dtype       as stored, in NumPy's words ("float32", "bfloat16" …); what NumPy lacks is widened by reading
    role        what the array is for: only "weight" is reused unless the user asks
    layer_type  the source framework's word for the owning layer ("Conv2D", "LSTM" …), "" when the file is silent
    note        what a reader did or assumed, in words ("dequantised from int8, scale per channel")
    layer       the owning layer, as requirements name it; "" when the file is silent: then the name minus its leaf
    leaf        what the array is in that layer, in the source's word ("kernel", "query/bias", "W"); "" likewise
    """

    shape: tuple[int, ...]
    dtype: str
    role: Role = "weight"
    layer_type: str = ""
    note: str = ""
    layer: str = ""
    leaf: str = ""

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the array as stored, before any widening."""
        return self.count * ITEM_BYTES.get(self.dtype, 0)


# What a requirement is about; docs/reference-requirements.md gives the meaning and the values of each.
Attribute = Literal[
    "eps", "momentum", "axis", "scale", "center", "affine_of", "padding", "padding_layer", "strides", "dilation",
    "output_padding", "groups", "inputs", "operation", "pool", "pool_size", "count_include_pad", "ceil_mode", "pad",
    "depth_multiplier", "data_format", "kernel_axes", "alpha", "beta", "use_bias", "activation", "recurrent_activation",
    "activations", "gate_order", "reset_after", "go_backwards", "return_sequences", "direction", "merge", "num_heads",
    "num_query_heads", "num_key_value_heads", "head_dim", "value_dim", "flatten_order", "flatten_channels",
    "flatten_axes", "flatten_sizes", "folded_batch_norm", "row_order", "norm_offset", "function", "masked",
]  # fmt: skip
Facts = dict[Attribute, object]  # of one layer


@dataclass(frozen=True)
class Requirement:
    """A fact of the source model that is not a weight, but without which the weights mean something else.

    layer      the source layer's name, the prefix of its arrays' names
    attribute  what the fact is about
    value      plain data: a number, a string, a list
    """

    layer: str
    attribute: Attribute
    value: object


def requirements_for(layer: str, facts: Facts) -> list[Requirement]:
    """The facts of one layer as requirements."""
    return [Requirement(layer, attribute, value) for attribute, value in facts.items()]


Stamp = tuple[int, int, int, int]
_FEW_FILES = 8  # that are looked at before each array is read: a look takes 2 µs


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file is replaced or edited: size, times of its content and its entry, inode; None if gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@final
@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Mapping[str, ArrayInfo]):
    """A read-only mapping name → ArrayInfo. Lazy: values are read by `read`, one at a time.

    path          what the user opened
    format        the reader's name: "tensorflow-v2", "safetensors" …
    layout        whose axis orders the arrays follow: "tensorflow", "torch" …; None when the file cannot tell
    infos         the arrays, in the order of the network's graph where the file tells it, else of the file
    files         every file that belongs to the checkpoint (for the provenance)
    requirements  facts beside the weights, where the file tells them
    notes         what the reader skipped or assumed, in sentences
    stamps        of the files, taken when the checkpoint was opened
    """

    path: Path
    format: str
    layout: str | None
    infos: Mapping[str, ArrayInfo]
    reader: Callable[[str], np.ndarray] = field(repr=False)
    files: tuple[Path, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    notes: tuple[str, ...] = ()
    stamps: Mapping[Path, Stamp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamps", {path: stamp for path in self.files if (stamp := stamp_of(path))})

    def __repr__(self) -> str:
        return f"<Checkpoint {self.path}: {self.format}, {counted(len(self), 'array')}>"

    def _repr_html_(self) -> str:
        rows = [(name, shape_text(info.shape), info.dtype) for name, info in self.infos.items()]
        return html_table(repr(self)[1:-1], ("array", "shape", "type"), rows)

    def __getitem__(self, name: str) -> ArrayInfo:
        return self.infos[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def read(self, name: str) -> np.ndarray:
        """The array's values, in its stored shape; bfloat16 and float8 come widened to float32 (exactly).

        Raises CheckpointError when there is no such array or its bytes are damaged.
        """
        if name not in self.infos:
            raise CheckpointError(f"{self.path}: no array named {name!r}. {near_names(name, self.infos)}")
        if len(self.stamps) <= _FEW_FILES:
            self.refuse_changes()
        array = self.reader(name)
        expected = self.infos[name].shape
        if tuple(array.shape) != expected:
            raise CheckpointError(
                f"{self.path}: {name} was announced with shape {expected} and read with shape {tuple(array.shape)}.\n"
                "The file is damaged or its reader is wrong: please report it with the file's origin."
            )
        return array

    def refuse_changes(self) -> None:
        """Raise CheckpointError when a file was replaced or edited since the checkpoint was opened.

        `read` looks too, but not at each of many files; `apply_plan` looks before it writes.
        """
        changed = [path for path, stamp in self.stamps.items() if stamp_of(path) != stamp]
        if changed:
            names = ", ".join(path.name for path in changed[:5])
            raise CheckpointError(
                f"{self.path} was changed after it was opened ({names}).\n"
                "Open it again with open_checkpoint, and make a new plan."
            )


def widen_bfloat16(raw: np.ndarray) -> np.ndarray:
    """uint16 bit patterns of bfloat16 → the same values as float32 (exact: bfloat16 is float32's upper half)."""
    wide = raw.astype(np.uint32)
    wide <<= 16  # in place: a large table is not held twice
    return wide.view(np.float32)
