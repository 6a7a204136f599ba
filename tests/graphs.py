"""A writer of TensorFlow graphs, node by node, so that tests can build any of them in protobuf and in JSON."""

from base64 import b64encode

import numpy as np

from written import field, varint

DTYPES = {"float32": 1, "int32": 3, "int64": 9}


def constant(name, array, *, listed=False):
    """A Const node.  listed  its values as a list, in which the last stands for all that are equal to it"""
    array = np.asarray(array)
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    tensor = field(1, DTYPES[array.dtype.name]) + field(2, shape)
    if listed:
        flat = array.reshape(-1)
        kept = flat[: len(flat) - int(np.argmin(np.append(flat[::-1] == flat[-1], False))) + 1]
        number = {"float32": 5, "int32": 7, "int64": 10}[array.dtype.name]
        tensor += field(number, kept.tobytes() if number == 5 else b"".join(varint(int(one)) for one in kept))
    else:
        tensor += field(4, array.tobytes())
    return {"name": name, "op": "Const", "attr": {"value": field(8, tensor)}, "array": array}


def node(name, op, *inputs, **attributes):
    """Any other node.  attributes  texts, lists of integers or texts, truth values, floats"""
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def _value(value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return field(2, value)
    if isinstance(value, bool):
        return field(5, int(value))
    if isinstance(value, float):
        return field(4, value)
    numbers = [one for one in value if isinstance(one, int)]
    packed = field(3, b"".join(map(varint, numbers))) if numbers else b""
    return field(1, packed + b"".join(field(2, one) for one in value if isinstance(one, str)))


def graph_bytes(*nodes):
    """A GraphDef."""
    messages = []
    for one in nodes:
        attributes = (field(5, field(1, key) + field(2, _value(value))) for key, value in one["attr"].items())
        messages.append(
            field(1, one["name"]) + field(2, one["op"]) + b"".join(field(3, name) for name in one.get("input", ()))
            + b"".join(attributes)
        )  # fmt: skip
    return b"".join(field(1, message) for message in messages)


def _json(value):
    if isinstance(value, str):
        return {"s": b64encode(value.encode()).decode()}
    if isinstance(value, bool):
        return {"b": value}
    if isinstance(value, float):
        return {"f": value}
    numbers = [str(one) for one in value if isinstance(one, int)]
    texts = [b64encode(one.encode()).decode() for one in value if isinstance(one, str)]
    return {"list": {"i": numbers} if numbers else {"s": texts}}


def graph_json(*nodes):
    """The same in JSON, without the constants' values."""
    return {
        "node": [
            {"name": one["name"], "op": one["op"], "input": one.get("input", []),
             "attr": {key: _json(value) for key, value in one["attr"].items() if not isinstance(value, bytes)}}
            for one in nodes
        ]
    }  # fmt: skip


def padded_network(kernel, bias, dense):
    """input → Pad (1, 1) → Conv2D with stride 2 → bias → relu → mean → MatMul, as TF1 writes Keras' ZeroPadding2D."""
    return [
        node("input", "Placeholder"), constant("pad/sides", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)),
        node("pad", "Pad", "input", "pad/sides"), constant("conv/kernel", kernel),
        node("conv/Conv2D", "Conv2D", "pad", "conv/kernel", strides=[1, 2, 2, 1], padding="VALID", data_format="NHWC",
             dilations=[1, 1, 1, 1]),
        constant("conv/bias", bias, listed=True), node("conv/BiasAdd", "BiasAdd", "conv/Conv2D", "conv/bias"),
        node("relu", "Relu", "conv/BiasAdd"), constant("mean/axes", np.array([1, 2], np.int32)),
        node("mean", "Mean", "relu", "mean/axes"), constant("fc/kernel", dense),
        node("fc/MatMul", "MatMul", "mean", "fc/kernel"), node("probabilities", "Softmax", "fc/MatMul"),
    ]  # fmt: skip
