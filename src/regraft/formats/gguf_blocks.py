"""The block formats of GGUF turned into float32: each function takes (blocks, bytes) and gives (blocks, elements).

Source: ggml-org/llama.cpp, ggml/src/ggml-common.h and ggml-quants.c (the structs and their dequantize_row functions).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.float32]
Unpack = Callable[[Bytes], Numbers]

_FOUR_BITS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
_FLOAT4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


@dataclass(frozen=True)
class BlockType:
    """One block format.

    elements, size_bytes  of one block
    unpack                None for a format that only the gguf library unpacks
    """

    name: str
    elements: int
    size_bytes: int
    unpack: Unpack | None = None


def _halves(blocks: Bytes, start: int, count: int = 1) -> Numbers:
    """(blocks, count) float16 numbers as float32."""
    return np.ascontiguousarray(blocks[:, start : start + 2 * count]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """(…, n) bytes → (…, 2n): the low four bits of all bytes, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _fifth_bits(blocks: Bytes, start: int) -> Bytes:
    """(blocks, 32) bits of a number of 32 bits, each worth 16."""
    return np.unpackbits(blocks[:, start : start + 4], axis=-1, bitorder="little") << np.uint8(4)


def _q4_0(blocks: Bytes) -> Numbers:
    return _halves(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Numbers:
    return _halves(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _halves(blocks, 2)


def _q5_0(blocks: Bytes) -> Numbers:
    return _halves(blocks, 0) * ((_nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)).astype(np.float32) - 16)


def _q5_1(blocks: Bytes) -> Numbers:
    values = (_nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)).astype(np.float32)
    return _halves(blocks, 0) * values + _halves(blocks, 2)


def _q8_0(blocks: Bytes) -> Numbers:
    return _halves(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q2_k(blocks: Bytes) -> Numbers:
    """16 parts of 16; a byte of scales holds a part's scale and minimum; two bits an element, 128 elements apart."""
    scales, (scale, minimum) = blocks[:, :16], np.split(_halves(blocks, 80, 2), 2, axis=1)
    values = _pairs_of_bits(blocks[:, 16:80]).reshape(-1, 16, 16).astype(np.float32)
    values = (scale * (scales & 15))[..., None] * values - (minimum * (scales >> 4))[..., None]
    return values.reshape(len(blocks), 256)


def _q3_k(blocks: Bytes) -> Numbers:
    """As Q2_K with a third bit in a mask, and scales of six bits: four, then two for each."""
    low, high = _nibbles(blocks[:, 96:104]), blocks[:, 104:108]
    upper = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
    scales = (low | upper << 4).astype(np.float32) - 32
    third = np.concatenate([blocks[:, :32] >> bit & 1 for bit in range(8)], axis=1)
    values = _pairs_of_bits(blocks[:, 32:96]).astype(np.float32) - 4 * (1 - third.astype(np.float32))
    return ((_halves(blocks, 108) * scales)[..., None] * values.reshape(-1, 16, 16)).reshape(len(blocks), 256)


def _pairs_of_bits(packed: Bytes) -> Bytes:
    """(blocks, 64) bytes → (blocks, 256): each half's bytes are gone through four times, two bits higher each time."""
    return np.stack([packed.reshape(-1, 2, 32) >> shift & 3 for shift in (0, 2, 4, 6)], axis=2).reshape(-1, 256)


def _scales_and_minima(blocks: Bytes) -> tuple[Numbers, Numbers]:
    """(blocks, 8) scales and minima of Q4_K and Q5_K: six bits each, packed in twelve bytes, times their factors."""
    packed, (scale, minimum) = blocks[:, 4:16], np.split(_halves(blocks, 0, 2), 2, axis=1)
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
    return scale * scales, minimum * minima


def _scaled(blocks: Bytes, values: Bytes) -> Numbers:
    """Eight parts of 32, each with its scale and minimum."""
    scales, minima = _scales_and_minima(blocks)
    parts = scales[..., None] * values.reshape(-1, 8, 32).astype(np.float32) - minima[..., None]
    return parts.reshape(len(blocks), 256)


def _q4_k(blocks: Bytes) -> Numbers:
    return _scaled(blocks, _nibbles(blocks[:, 16:].reshape(-1, 4, 32)))


def _q5_k(blocks: Bytes) -> Numbers:
    fifth = np.stack([blocks[:, 16:48] >> bit & 1 for bit in range(8)], axis=1).reshape(-1, 4, 64)
    return _scaled(blocks, _nibbles(blocks[:, 48:].reshape(-1, 4, 32)) | fifth << np.uint8(4))


def _q6_k(blocks: Bytes) -> Numbers:
    """Two halves of 128: four bits in one table, two in another; a signed scale for each 16."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64))
    high = np.concatenate([blocks[:, 128:192].reshape(-1, 2, 32) >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    values = (low | high << 4).reshape(-1, 16, 16).astype(np.float32) - 32
    scales = _halves(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return (scales[..., None] * values).reshape(len(blocks), 256)


def _iq4_nl(blocks: Bytes) -> Numbers:
    return _halves(blocks, 0) * _FOUR_BITS[_nibbles(blocks[:, 2:])]


def _iq4_xs(blocks: Bytes) -> Numbers:
    """Eight parts of 32, with scales of six bits: four, then two for each."""
    high = np.ascontiguousarray(blocks[:, 2:4]).view("<u2")
    low = np.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], axis=2).reshape(-1, 8)
    upper = (high >> np.arange(0, 16, 2, dtype=np.uint16) & 3).astype(np.uint8)
    scales = _halves(blocks, 0) * ((low | upper << 4).astype(np.float32) - 32)
    values: np.ndarray = _FOUR_BITS[_nibbles(blocks[:, 8:].reshape(-1, 8, 16))]
    weights: np.ndarray = scales[..., None] * values
    return weights.reshape(len(blocks), 256)


def _mxfp4(blocks: Bytes) -> Numbers:
    """An exponent for 32 numbers of four bits, whose table holds twice their values."""
    scales: Numbers = np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128)
    values: Numbers = scales * _FLOAT4[_nibbles(blocks[:, 1:])]
    return values


BLOCK_TYPES = {
    2: BlockType("Q4_0", 32, 18, _q4_0), 3: BlockType("Q4_1", 32, 20, _q4_1), 6: BlockType("Q5_0", 32, 22, _q5_0),
    7: BlockType("Q5_1", 32, 24, _q5_1), 8: BlockType("Q8_0", 32, 34, _q8_0), 10: BlockType("Q2_K", 256, 84, _q2_k),
    11: BlockType("Q3_K", 256, 110, _q3_k), 12: BlockType("Q4_K", 256, 144, _q4_k),
    13: BlockType("Q5_K", 256, 176, _q5_k), 14: BlockType("Q6_K", 256, 210, _q6_k),
    16: BlockType("IQ2_XXS", 256, 66), 17: BlockType("IQ2_XS", 256, 74), 18: BlockType("IQ3_XXS", 256, 98),
    19: BlockType("IQ1_S", 256, 50), 20: BlockType("IQ4_NL", 32, 18, _iq4_nl), 21: BlockType("IQ3_S", 256, 110),
    22: BlockType("IQ2_S", 256, 82), 23: BlockType("IQ4_XS", 256, 136, _iq4_xs), 29: BlockType("IQ1_M", 256, 56),
    34: BlockType("TQ1_0", 256, 54), 35: BlockType("TQ2_0", 256, 66), 39: BlockType("MXFP4", 32, 17, _mxfp4),
    40: BlockType("NVFP4", 64, 36), 41: BlockType("Q1_0", 128, 18),
}  # fmt: skip
PLAIN_TYPES = {
    0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16",
}  # fmt: skip
