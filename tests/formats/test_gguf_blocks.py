"""Blocks against the gguf library's own unpacking."""

import gguf
import numpy as np
import pytest

from regraft.formats.gguf_blocks import BLOCK_TYPES, PLAIN_TYPES

OWN = [number for number, kind in BLOCK_TYPES.items() if kind.unpack]


@pytest.mark.parametrize("number", OWN, ids=lambda number: BLOCK_TYPES[number].name)
def test_any_bytes_unpack_as_the_library_unpacks_them(number):
    """Every bit of a block matters, so random blocks are the strictest test; scales are kept finite."""
    kind = BLOCK_TYPES[number]
    blocks = np.random.default_rng(number).integers(0, 256, (500, kind.size_bytes), np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(blocks, gguf.GGMLQuantizationType(number))
        values = kind.unpack(blocks)

    assert values.shape == (500, kind.elements)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values.reshape(expected.shape), expected)


def test_sizes_and_names_are_the_library_s():
    """For those formats too that only the library unpacks."""
    for number, kind in BLOCK_TYPES.items():
        known = gguf.GGMLQuantizationType(number)
        assert (kind.name, (kind.elements, kind.size_bytes)) == (known.name, gguf.GGML_QUANT_SIZES[known])
    assert {gguf.GGMLQuantizationType(number).name for number in PLAIN_TYPES} == {
        "F32", "F16", "F64", "BF16", "I8", "I16", "I32", "I64",
    }  # fmt: skip
