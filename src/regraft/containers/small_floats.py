"""Floating-point numbers of eight and four bits, widened to float32 exactly.

Sources: Micikevicius et al., "FP8 formats for deep learning", 2022, table 1 (e4m3fn, e5m2); Noune et al., "8-bit
numerical formats for deep neural networks", 2022 (the fnuz forms); OCP microscaling formats 1.0, 2023 (e8m0, e2m1).
"""

from functools import lru_cache

import numpy as np

SMALL_FLOATS = {  # dtype → (bits of the exponent, of the mantissa, bias)
    "float8_e4m3fn": (4, 3, 7), "float8_e5m2": (5, 2, 15), "float8_e4m3fnuz": (4, 3, 8), "float8_e5m2fnuz": (5, 2, 16),
    "float4_e2m1fn": (2, 1, 1), "float8_e8m0fnu": (8, 0, 127),
}  # fmt: skip


@lru_cache
def widened_values(dtype: str) -> np.ndarray:
    """The float32 value of each bit pattern: 256 of them, 16 for four bits."""
    exponent_bits, mantissa_bits, bias = SMALL_FLOATS[dtype]
    width = exponent_bits + mantissa_bits
    bits = np.arange(256 if width == 8 else 2 << width)
    exponent, mantissa = bits >> mantissa_bits & ((1 << exponent_bits) - 1), bits & ((1 << mantissa_bits) - 1)
    if dtype == "float8_e8m0fnu":  # powers of two, without sign and without zero
        values: np.ndarray = np.ldexp(1.0, exponent - bias)
        values[255] = np.nan
        return values.astype(np.float32)
    part = mantissa / (1 << mantissa_bits)
    size = np.where(exponent == 0, np.ldexp(part, 1 - bias), np.ldexp(1 + part, exponent - bias))
    values = np.where(bits >> width & 1, -size, size).astype(np.float32)
    if dtype.endswith("fnuz"):
        values[128] = np.nan  # where others keep the negative zero
    elif dtype == "float8_e4m3fn":
        values[(bits & 127) == 127] = np.nan
    elif dtype == "float8_e5m2":
        values[(bits & 127) == 124] *= np.inf
        values[(bits & 127) > 124] = np.nan
    return values
