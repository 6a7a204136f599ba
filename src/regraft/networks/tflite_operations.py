"""TensorFlow Lite's operators as the operations of TensorFlow that they stand for.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, schema version 3; tensorflow/lite/kernels.
"""

from collections.abc import Callable, Mapping
from typing import Any

from regraft.containers.flatbuffer import FlatTable

Options = Callable[[FlatTable], dict[str, Any]]
_PADDINGS = {0: "SAME", 1: "VALID"}
_ACTIVATIONS = {0: "", 1: "Relu", 2: "ReluN1To1", 3: "Relu6", 4: "Tanh", 5: "SignBit"}
DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float64", 12: "uint64", 13: "resource", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip


def _fused(field: int) -> Options:
    """The activation in this field."""
    return lambda options: _activation(options, field)


def _activation(options: FlatTable, field: int) -> dict[str, Any]:
    number = options.number(field, "b")
    return {"fused_activation": _ACTIVATIONS.get(number, f"number {number}")} if number else {}


def _flags(**names: int) -> Options:
    """Truth values."""
    return lambda options: {name: bool(options.number(field, "b")) for name, field in names.items()}


def _integers(**names: int) -> Options:
    """Whole numbers."""
    return lambda options: {name: options.number(field, "i") for name, field in names.items()}


def _convolution(options: FlatTable) -> dict[str, Any]:
    return {
        "padding": _PADDINGS.get(options.number(0, "b"), "unknown"),
        "strides": [1, options.number(2, "i"), options.number(1, "i"), 1],
        "dilations": [1, options.number(5, "i", 1), options.number(4, "i", 1), 1],
        **_activation(options, 3),
    }


def _depthwise(options: FlatTable) -> dict[str, Any]:
    return {
        "padding": _PADDINGS.get(options.number(0, "b"), "unknown"),
        "strides": [1, options.number(2, "i"), options.number(1, "i"), 1],
        "dilations": [1, options.number(6, "i", 1), options.number(5, "i", 1), 1],
        **_activation(options, 4),
    }


def _transposed(options: FlatTable) -> dict[str, Any]:
    return {
        "padding": _PADDINGS.get(options.number(0, "b"), "unknown"),
        "strides": [1, options.number(2, "i"), options.number(1, "i"), 1],
        **_activation(options, 3),
    }


def _pool(options: FlatTable) -> dict[str, Any]:
    return {
        "padding": _PADDINGS.get(options.number(0, "b"), "unknown"),
        "strides": [1, options.number(2, "i"), options.number(1, "i"), 1],
        "ksize": [1, options.number(4, "i"), options.number(3, "i"), 1],
        **_activation(options, 5),
    }


def _connected(options: FlatTable) -> dict[str, Any]:
    kept = {"keep_num_dims": bool(options.number(2, "b")), "shuffled": bool(options.number(1, "b"))}
    return {**kept, **_activation(options, 0)}


def _concatenation(options: FlatTable) -> dict[str, Any]:
    return {"axis": options.number(0, "i"), **_activation(options, 1)}


def _reshape(options: FlatTable) -> dict[str, Any]:
    return {"shape": [int(size) for size in options.numbers(0, "<i4")]}


def _squeeze(options: FlatTable) -> dict[str, Any]:
    return {"squeeze_dims": [int(axis) for axis in options.numbers(0, "<i4")]}


def _strided_slice(options: FlatTable) -> dict[str, Any]:
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    settings = {name: options.number(field, "i") for field, name in enumerate(names)}
    return settings | {"offset": bool(options.number(5, "b"))}


def _cast(options: FlatTable) -> dict[str, Any]:
    return {"DstT": DTYPES.get(options.number(1, "b"), "unknown")}


def _mirror(options: FlatTable) -> dict[str, Any]:
    return {"mode": "SYMMETRIC" if options.number(0, "b") else "REFLECT"}


def _type(field: int, name: str) -> Options:
    return lambda options: {name: DTYPES.get(options.number(field, "b"), "unknown")}


def _recurrent(options: FlatTable) -> dict[str, Any]:
    return {
        "cell_clip": options.number(1, "f"), "proj_clip": options.number(2, "f"),
        "time_major": bool(options.number(3, "b")), **_activation(options, 0),
    }  # fmt: skip


def _none(options: FlatTable) -> dict[str, Any]:
    return {}


_SIMPLE = {
    6: "Dequantize", 8: "Floor", 14: "Sigmoid", 19: "Relu", 20: "ReluN1To1", 21: "Relu6", 28: "Tanh", 34: "Pad",
    37: "BatchToSpaceND", 38: "SpaceToBatchND", 39: "Transpose", 47: "Exp", 48: "TopKV2", 50: "LogSoftmax",
    54: "Prelu", 55: "Maximum", 57: "Minimum", 58: "Less", 59: "Neg", 60: "PadV2", 61: "Greater", 62: "GreaterEqual",
    63: "LessEqual", 64: "Select", 65: "Slice", 66: "Sin", 69: "Tile", 70: "ExpandDims", 71: "Equal",
    72: "NotEqual", 73: "Log", 75: "Sqrt", 76: "Rsqrt", 77: "Shape", 78: "Pow", 84: "LogicalOr", 86: "LogicalAnd",
    87: "LogicalNot", 90: "FloorDiv", 92: "Square", 93: "ZerosLike", 94: "Fill", 95: "FloorMod", 96: "Range",
    99: "SquaredDifference", 101: "Abs", 104: "Ceil", 105: "ReverseV2", 106: "AddN", 107: "GatherNd", 108: "Cos",
    110: "Rank", 111: "Elu", 114: "Quantize", 116: "Round", 117: "HardSwish", 123: "SelectV2", 130: "BroadcastTo",
    131: "RFFT2D", 133: "Imag", 134: "Real", 135: "ComplexAbs", 143: "ReadVariable", 144: "AssignVariable",
    124: "Identity", 152: "Relu0To1", 158: "Sign", 156: "Atan2",
}  # fmt: skip
OPERATIONS: Mapping[int, tuple[str, Options]] = {
    **{code: (word, _none) for code, word in _SIMPLE.items()},
    0: ("Add", _fused(0)), 41: ("Sub", _fused(0)), 18: ("Mul", _fused(0)), 42: ("RealDiv", _fused(0)),
    1: ("AvgPool", _pool), 17: ("MaxPool", _pool), 2: ("ConcatV2", _concatenation), 3: ("Conv2D", _convolution),
    4: ("DepthwiseConv2dNative", _depthwise), 67: ("Conv2DBackpropInput", _transposed),
    5: ("DepthToSpace", _integers(block_size=0)), 26: ("SpaceToDepth", _integers(block_size=0)),
    9: ("FullyConnected", _connected), 11: ("L2Normalization", _fused(0)),
    13: ("LRN", lambda options: {"depth_radius": options.number(0, "i"), "bias": options.number(1, "f"),
                                 "alpha": options.number(2, "f"), "beta": options.number(3, "f")}),
    22: ("Reshape", _reshape), 43: ("Squeeze", _squeeze),
    25: ("Softmax", lambda options: {"beta": options.number(0, "f")}),
    23: ("ResizeBilinear", _flags(align_corners=2, half_pixel_centers=3)),
    97: ("ResizeNearestNeighbor", _flags(align_corners=0, half_pixel_centers=1)),
    36: ("GatherV2", _integers(axis=0, batch_dims=1)), 49: ("Split", _integers(num_split=0)),
    102: ("SplitV", _integers(num_split=0)), 45: ("StridedSlice", _strided_slice), 53: ("Cast", _cast),
    **{code: (word, _flags(keep_dims=0)) for code, word in
       {40: "Mean", 74: "Sum", 81: "Prod", 82: "Max", 89: "Min", 91: "Any", 140: "All"}.items()},
    56: ("ArgMax", _type(0, "output_type")), 79: ("ArgMin", _type(0, "output_type")), 83: ("Pack", _integers(axis=1)),
    88: ("Unpack", _integers(num=0, axis=1)), 85: ("OneHot", _integers(axis=0)),
    98: ("LeakyRelu", lambda options: {"alpha": options.number(0, "f")}), 100: ("MirrorPad", _mirror),
    118: ("If", _integers(then_branch=0, else_branch=1)), 126: ("BatchMatMul", _flags(adj_x=0, adj_y=1)),
    128: ("Cumsum", _flags(exclusive=0, reverse=1)), 129: ("CallOnce", _integers(function=0)),
    142: ("VarHandle", lambda options: {"shared_name": options.text(1)}), 150: ("Gelu", _flags(approximate=0)),
    44: ("UnidirectionalSequenceLSTM", _recurrent),
}  # fmt: skip

WORDS = {  # operators without translation, by name
    7: "EMBEDDING_LOOKUP", 10: "HASHTABLE_LOOKUP", 12: "L2_POOL_2D", 15: "LSH_PROJECTION", 16: "LSTM", 24: "RNN",
    27: "SVDF", 30: "SKIP_GRAM", 31: "CALL", 32: "CUSTOM", 35: "UNIDIRECTIONAL_SEQUENCE_RNN",
    46: "BIDIRECTIONAL_SEQUENCE_RNN", 52: "BIDIRECTIONAL_SEQUENCE_LSTM", 68: "SPARSE_TO_DENSE", 80: "FAKE_QUANT",
    103: "UNIQUE", 109: "WHERE", 112: "REVERSE_SEQUENCE", 113: "MATRIX_DIAG", 119: "WHILE",
    120: "NON_MAX_SUPPRESSION_V4", 121: "NON_MAX_SUPPRESSION_V5", 122: "SCATTER_ND",
    125: "SEGMENT_SUM", 132: "CONV_3D", 136: "HASHTABLE", 137: "HASHTABLE_FIND", 141: "CONV_3D_TRANSPOSE",
    145: "BROADCAST_ARGS", 146: "RANDOM_STANDARD_NORMAL", 147: "BUCKETIZE", 148: "RANDOM_UNIFORM",
    149: "MULTINOMIAL", 151: "DYNAMIC_UPDATE_SLICE",
}  # fmt: skip
