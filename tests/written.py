"""Caffe and MXNet files written by their formats' descriptions: neither framework can be installed any more.

Sources: BVLC/caffe, src/caffe/proto/caffe.proto; apache/mxnet, src/ndarray/ndarray.cc (NDArray::Save of each version).
"""

import gzip
import json
import struct
import zlib

import gguf
import numpy as np


def varint(number):
    """A variable-length integer; negative ones as their 64 bits."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number, value):
    """One protobuf field: an int as varint, a float as four bytes, a text or bytes with its length."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else bytes(value)
    return varint(number << 3 | 2) + varint(len(content)) + content


def fields(*pairs):
    """A message of (number, value) pairs."""
    return b"".join(field(number, value) for number, value in pairs)


def blob(array, *, legacy=False):
    """A BlobProto, with the shape of 2014 or, legacy, with num, channels, height and width."""
    array = np.asarray(array)
    values = (8, array.astype("<f8").tobytes()) if array.dtype == np.float64 else (5, array.astype("<f4").tobytes())
    if legacy:
        dims = (1,) * (4 - array.ndim) + array.shape
        return fields(*enumerate(dims, start=1), values)
    return fields((7, fields((1, b"".join(varint(size) for size in array.shape)))), values)


def caffe_layer(name, kind, arrays=(), *, bottom="", top="", settings=()):
    """A LayerParameter; settings are (field number, message) pairs."""
    ends = [(3, bottom)] * bool(bottom) + [(4, top or name)] * bool(bottom)
    return (100, fields((1, name), (2, kind), *ends, *((7, blob(array)) for array in arrays), *settings))


def caffe_v1_layer(name, number, arrays=(), *, settings=()):
    """A V1LayerParameter of 2013, whose type is a number and whose blobs have four sizes."""
    return (2, fields((4, name), (5, number), *((6, blob(array, legacy=True)) for array in arrays), *settings))


def write_caffe(path, layers, *, name="net"):
    """A NetParameter of these layers."""
    path.write_bytes(fields((1, name), *layers))
    return path


TYPE_FLAGS = {
    "float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6, "bool": 7,
}  # fmt: skip


def ndarray(array, version):
    """One NDArray with the header of version 0 (before magic numbers), 1, 2 or 3; a uint16 array is bfloat16."""
    array = np.asarray(array)
    flag = 12 if array.dtype == np.uint16 else TYPE_FLAGS[array.dtype.name]
    wide = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
    head = {
        0: struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape),
        1: struct.pack("<I", 0xF993FAC8) + wide,
        2: struct.pack("<Ii", 0xF993FAC9, 0) + wide,
        3: struct.pack("<Ii", 0xF993FACA, 0) + wide,
    }[version]
    return head + struct.pack("<iii", 1, 0, flag) + array.tobytes()


def write_params(path, arrays, *, version=2):
    """A `.params` file; names are written as they are given, `arg:` and `aux:` included."""
    content = struct.pack("<QQQ", 0x112, 0, len(arrays))
    content += b"".join(ndarray(array, version) for array in arrays.values())
    content += struct.pack("<Q", len(arrays))
    for name in arrays:
        content += struct.pack("<Q", len(name.encode())) + name.encode()
    path.write_bytes(content)
    return path


def write_gguf(path, arrays, *, types=None, architecture="test", facts=lambda writer: None):
    """A GGUF file of the gguf library; `types` gives the block format of an array by its name."""
    writer = gguf.GGUFWriter(path, architecture)
    facts(writer)
    for name, array in arrays.items():
        kind = (types or {}).get(name)
        writer.add_tensor(name, array if kind is None else gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_zarr(folder, name, array, *, chunk=None, compressor=None, order="C", separator="."):
    """A Zarr 2 array as the first Orbax and t5x write it: a folder named by the keys, joined with dots."""
    home = folder / name.replace("/", ".")
    home.mkdir(parents=True)
    chunk = chunk or array.shape
    described = {
        "zarr_format": 2, "shape": array.shape, "chunks": chunk, "dtype": array.dtype.str, "fill_value": None,
        "compressor": compressor and {"id": compressor, "level": 1}, "filters": None, "order": order,
        "dimension_separator": separator,
    }  # fmt: skip
    (home / ".zarray").write_text(json.dumps(described))
    pack = {None: bytes, "zlib": zlib.compress, "gzip": gzip.compress}[compressor]
    for index in np.ndindex(*(-(-size // part) for size, part in zip(array.shape, chunk, strict=True))):
        whole = np.zeros(chunk, array.dtype)
        piece = array[tuple(slice(at * part, (at + 1) * part) for at, part in zip(index, chunk, strict=True))]
        whole[tuple(slice(0, size) for size in piece.shape)] = piece
        file = home / (separator.join(map(str, index)) or "0")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pack(whole.tobytes()))
    return home
