"""ONNX operators along axes and over windows: reductions, softmax, pooling, resizing, products of matrices.

Source: onnx/onnx, docs/Operators.md.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from regraft.formats.onnx_nodes import OnnxNode
from regraft.formats.onnx_padding import own_padding
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Input, Literal
from regraft.networks.onnx_translation import Translate, Translation

_REDUCTIONS = {
    "ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
    "ReduceL1": "l1", "ReduceL2": "l2", "ReduceLogSumExp": "logsumexp",
}  # fmt: skip
_FIRST = {"ReduceSumSquare": ("square", "sum"), "ReduceLogSum": ("sum", "log")}


def _reduction_axes(translation: Translation, node: OnnxNode) -> tuple[int, ...] | None:
    """The axes; None for all of them. Raises UnsupportedError when they are computed as the network runs."""
    if node.input(1):
        axes = translation.needed_integers(node.input(1), "axes")
    else:
        axes = translation.graph.integers(node, "axes")
    return tuple(axes) or None


def _reduce(translation: Translation, node: OnnxNode) -> None:
    axes = _reduction_axes(translation, node)
    if axes is None and translation.graph.integer(node, "noop_with_empty_axes", 0):
        translation.emit("identity", translation.inputs(node, 0), node.outputs)
        return
    settings = {"axes": axes, "keepdim": translation.graph.integer(node, "keepdims", 1) == 1}
    value = translation.value(node.input(0))
    if node.operator == "ReduceSumSquare":
        squares = translation.step("square", [value], node.outputs[0])
        translation.emit("sum", [squares], node.outputs, **settings)
    elif node.operator == "ReduceLogSum":
        translation.emit("log", [translation.step("sum", [value], node.outputs[0], **settings)], node.outputs)
    else:
        translation.emit(_REDUCTIONS[node.operator], [value], node.outputs, **settings)


def _argument(translation: Translation, node: OnnxNode) -> None:
    graph = translation.graph
    if graph.integer(node, "select_last_index", 0):
        raise UnsupportedError("it takes the last of equal values")
    operator, axis = node.operator.lower(), graph.integer(node, "axis", 0)
    keepdim = graph.integer(node, "keepdims", 1) == 1
    translation.emit(operator, translation.inputs(node, 0), node.outputs, axes=axis, keepdim=keepdim)


def _softmax(translation: Translation, node: OnnxNode) -> None:
    """Before opset 13 all axes from the given one on are one."""
    operator = "log_softmax" if node.operator == "LogSoftmax" else "softmax"
    axis = translation.graph.integer(node, "axis", -1 if translation.opset >= 13 else 1)
    if translation.opset < 13 and axis != -1:
        operator = f"{operator}_from"
    translation.emit(operator, translation.inputs(node, 0), node.outputs, axis=axis)


def _cumsum(translation: Translation, node: OnnxNode) -> None:
    axis, graph = translation.needed_integers(node.input(1), "axes")[0], translation.graph
    if graph.integer(node, "exclusive", 0):
        raise UnsupportedError("it leaves out the element itself")
    value = translation.value(node.input(0))
    if graph.integer(node, "reverse", 0):
        turned = translation.step("flip", [value], node.outputs[0], axes=(axis,))
        total = translation.step("cumsum", [turned], node.outputs[0], axis=axis)
        translation.emit("flip", [total], node.outputs, axes=(axis,))
    else:
        translation.emit("cumsum", [value], node.outputs, axis=axis)


def _topk(translation: Translation, node: OnnxNode) -> None:
    graph = translation.graph
    count = translation.integers(node.input(1)) if node.input(1) else [graph.integer(node, "k", 1)]
    if count is None:
        raise UnsupportedError("its number of elements is computed as the network runs")
    outputs = [name or f"{node.outputs[0]}#unused" for name in (*node.outputs, "", "")[:2]]
    translation.dtypes[outputs[1]] = "int64"
    translation.emit(
        "topk", translation.inputs(node, 0), outputs, k=count[0], axis=graph.integer(node, "axis", -1),
        largest=graph.integer(node, "largest", 1) == 1,
    )  # fmt: skip


def _window(translation: Translation, node: OnnxNode) -> dict[str, Any]:
    """Kernel, stride, dilation and padding of a pooling."""
    graph, kernel = translation.graph, tuple(translation.graph.integers(node, "kernel_shape"))
    ones = (1,) * len(kernel)
    padding = own_padding(graph, node, len(kernel))
    return {
        "kernel": kernel,
        "stride": tuple(graph.integers(node, "strides")) or ones,
        "dilation": tuple(graph.integers(node, "dilations")) or ones,
        "padding": padding if isinstance(padding, str) else tuple(map(tuple, padding)),
        "ceil": graph.integer(node, "ceil_mode", 0) == 1,
    }


def _pool(translation: Translation, node: OnnxNode) -> None:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise UnsupportedError("it gives the positions of the largest values")
    settings = _window(translation, node)
    if node.operator == "AveragePool":
        settings["count_pad"] = translation.graph.integer(node, "count_include_pad", 0) == 1
    operator = "max_pool" if node.operator == "MaxPool" else "avg_pool"
    translation.emit(operator, translation.inputs(node, 0), node.outputs[:1], **settings)


def _global_pool(operator: str, translation: Translation, node: OnnxNode) -> None:
    translation.emit(operator, translation.inputs(node, 0), node.outputs)


def _local_response(translation: Translation, node: OnnxNode) -> None:
    graph = translation.graph
    translation.emit(
        "local_response_norm", translation.inputs(node, 0), node.outputs, size=graph.integer(node, "size", 1),
        alpha=graph.real(node, "alpha", 1e-4), beta=graph.real(node, "beta", 0.75), bias=graph.real(node, "bias", 1.0),
    )  # fmt: skip


def _lp_norm(translation: Translation, node: OnnxNode) -> None:
    """x / ‖x‖ along an axis, 0 where the norm is 0."""
    power, axis = translation.graph.integer(node, "p", 2), translation.graph.integer(node, "axis", -1)
    if power not in (1, 2):
        raise UnsupportedError(f"its norm is of power {power}")
    value = translation.value(node.input(0))
    norm = translation.step(f"l{power}", [value], node.outputs[0], axes=(axis,), keepdim=True)
    translation.emit("div", [value, norm], node.outputs)


def _matmul(translation: Translation, node: OnnxNode) -> None:
    translation.emit("matmul", translation.inputs(node, 0, 1), node.outputs)


def _gemm(translation: Translation, node: OnnxNode) -> None:
    """alpha · A B + beta · C, of matrices that may be transposed."""
    graph, output = translation.graph, node.outputs[0]
    factors = [_turned(translation, node, index, name) for index, name in ((0, "transA"), (1, "transB"))]
    product: Input = translation.step("matmul", factors, output)
    product = _times(translation, product, graph.real(node, "alpha", 1.0), output)
    if node.input(2):
        beta = graph.real(node, "beta", 1.0)
        other = _times(translation, translation.value(node.input(2)), beta, output)
        translation.emit("add", [product, other], node.outputs)
    else:
        translation.alias(node, product)


def _turned(translation: Translation, node: OnnxNode, index: int, attribute: str) -> Input:
    value = translation.value(node.input(index))
    if not translation.graph.integer(node, attribute, 0):
        return value
    return translation.step("permute", [value], node.outputs[0], axes=(1, 0))


def _times(translation: Translation, value: Input, factor: float, like: str) -> Input:
    return value if factor == 1.0 else translation.step("mul", [value, Literal(factor)], like)


def _fused_matmul(translation: Translation, node: OnnxNode) -> None:
    """ONNX Runtime's product of matrices, of which the last two axes may be exchanged."""
    graph = translation.graph
    if graph.integer(node, "transBatchA", 0) or graph.integer(node, "transBatchB", 0):
        raise UnsupportedError("it exchanges axes of the batch")
    factors = []
    for index, name in ((0, "transA"), (1, "transB")):
        value = translation.value(node.input(index))
        is_turned = graph.integer(node, name, 0)
        factors.append(translation.step("matrix_transpose", [value], node.outputs[0]) if is_turned else value)
    alpha = graph.real(node, "alpha", 1.0)
    if alpha == 1.0:
        translation.emit("matmul", factors, node.outputs)
    else:
        translation.emit("mul", [translation.step("matmul", factors, node.outputs[0]), Literal(alpha)], node.outputs)


# --- resizing ---------------------------------------------------------------------------------------------------------


def _resize(translation: Translation, node: OnnxNode) -> None:
    """Resize of opset 10 has (x, scales) and no coordinates; later ones have (x, roi, scales, sizes)."""
    graph = translation.graph
    is_old = translation.opset < 11 or node.operator == "Upsample"
    mode = graph.text(node, "mode", "nearest").replace("bilinear", "linear")
    coordinates = "asymmetric" if is_old else graph.text(node, "coordinate_transformation_mode", "half_pixel")
    _refuse_rare_resizing(translation, node, mode, coordinates)
    scale, size = _extent(translation, node, is_old)
    rounding = "floor" if is_old else graph.text(node, "nearest_mode", "round_prefer_floor")
    settings: dict[str, Any] = {"mode": mode, "coordinates": coordinates}
    settings |= {"rounding": rounding} if mode == "nearest" else {}
    if scale is None and size is None:
        translation.emit("resize_to", translation.inputs(node, 0, 3), node.outputs, **settings)
    else:
        translation.emit("resize", translation.inputs(node, 0), node.outputs, scale=scale, size=size, **settings)


def _refuse_rare_resizing(translation: Translation, node: OnnxNode, mode: str, coordinates: str) -> None:
    graph = translation.graph
    if mode not in ("nearest", "linear", "cubic"):
        raise UnsupportedError(f"its mode is {mode}")
    known = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn")
    if coordinates not in known:
        raise UnsupportedError(f"its coordinates are {coordinates}")
    if graph.real(node, "cubic_coeff_a", -0.75) != -0.75 and mode == "cubic":
        raise UnsupportedError("its cubic has another coefficient than -0.75")
    if graph.integer(node, "exclude_outside", 0) or graph.integer(node, "antialias", 0):
        raise UnsupportedError("it excludes what lies outside, or filters against aliasing")
    if graph.integers(node, "axes") or graph.text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedError("it names axes, or keeps the aspect ratio")


def _extent(
    translation: Translation, node: OnnxNode, is_old: bool
) -> tuple[tuple[float, ...] | None, tuple[int, ...] | None]:
    """(scales, sizes) of the axes of space, one of them None; both None when they are computed as the network runs."""
    graph, index = translation.graph, 1 if is_old else 2
    scales = graph.file.floats(node.attributes["scales"][7]) if "scales" in node.attributes else []
    if not scales and node.input(index):
        constant = translation.constant(node.input(index))
        if constant is None:
            raise UnsupportedError("its scales are computed as the network runs")
        scales = [float(str(number)) for number in constant.reshape(-1)]
    if scales:
        if any(scale != 1 for scale in scales[:2]):
            raise UnsupportedError("it resizes the batch or the channels")
        return tuple(scales[2:]), None
    sizes = translation.integers(node.input(3)) if not is_old else None
    return None, None if sizes is None else tuple(sizes[2:])


def _grid_sample(translation: Translation, node: OnnxNode) -> None:
    graph = translation.graph
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(word := graph.text(node, "mode", "bilinear"), word)
    translation.emit(
        "grid_sample", translation.inputs(node, 0, 1), node.outputs, mode=mode,
        padding_mode=graph.text(node, "padding_mode", "zeros"),
        align_corners=graph.integer(node, "align_corners", 0) == 1,
    )  # fmt: skip


MAPS: Mapping[str, Translate] = {
    **dict.fromkeys((*_REDUCTIONS, *_FIRST), _reduce),
    "ArgMax": _argument, "ArgMin": _argument, "Softmax": _softmax, "LogSoftmax": _softmax, "CumSum": _cumsum,
    "TopK": _topk, "MaxPool": _pool, "AveragePool": _pool,
    "GlobalAveragePool": partial(_global_pool, "global_avg_pool"),
    "GlobalMaxPool": partial(_global_pool, "global_max_pool"),
    "LRN": _local_response, "LpNormalization": _lp_norm, "MatMul": _matmul, "Gemm": _gemm,
    "FusedMatMul": _fused_matmul, "Resize": _resize, "Upsample": _resize, "GridSample": _grid_sample,
}  # fmt: skip
