"""Writes a TensorFlow V2 checkpoint: `PREFIX.index`, `PREFIX.data-00000-of-00001` and the file `checkpoint`.

The bytes are those of TensorFlow's own Saver for the same arrays (tests/golden/tf1_v2.ckpt).
Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc (BundleWriter), tensorflow/core/lib/io/table_builder.cc.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from regraft.containers.crc32c import masked_crc32c
from regraft.containers.protobuf_writer import fixed32_field, message_field, number_field, text_of
from regraft.containers.sstable_writer import table_bytes
from regraft.errors import SaveError
from regraft.formats.tensor_bundle import DTYPES
from regraft.foundation.wording import listed

NUMBERS = {name: number for number, name in reversed(DTYPES.items())}  # of equal names the first number
_PRODUCER = message_field(3, number_field(1, 1))  # VersionDef of the bundle
_HEADER = number_field(1, 1) + _PRODUCER  # one data file, little endian


def write_bundle(prefix: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays under these names, as `tf.train.Saver` does.

    prefix  of the files; `checkpoint` beside them names it, so that `tf.train.latest_checkpoint(folder)` finds it

    Raises SaveError for a dtype that TensorFlow has not, and for no array.
    """
    strange = [name for name, array in arrays.items() if array.dtype.name not in NUMBERS]
    if strange or not arrays:
        raise SaveError(f"TensorFlow has no dtype for {listed(strange)}." if strange else "There is no array to write.")
    data = bytearray()
    entries: dict[bytes, bytes] = {b"": _HEADER}
    for name in sorted(arrays, key=str.encode):
        content = np.ascontiguousarray(arrays[name]).astype(arrays[name].dtype.newbyteorder("<"), copy=False).tobytes()
        entries[name.encode()] = _entry(arrays[name], len(data), content)
        data += content
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    Path(f"{prefix}.index").write_bytes(table_bytes(entries))
    state = f'model_checkpoint_path: "{text_of(prefix.name)}"\nall_model_checkpoint_paths: "{text_of(prefix.name)}"\n'
    (prefix.parent / "checkpoint").write_text(state, encoding="utf-8")


def _entry(array: np.ndarray, offset: int, content: bytes) -> bytes:
    """A BundleEntryProto; zeros are left out."""
    shape = b"".join(message_field(2, number_field(1, size)) for size in array.shape)
    return b"".join(
        [
            number_field(1, NUMBERS[array.dtype.name]),
            message_field(2, shape),
            number_field(4, offset),
            number_field(5, len(content)),
            fixed32_field(6, masked_crc32c(content)),
        ]
    )
