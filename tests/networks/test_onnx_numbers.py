"""Every ONNX operator on numbers computes what ONNX Runtime computes."""

import numpy as np
import pytest
from tests.onnx_networks import build_onnx, compare, floats, node, write_onnx

from regraft.errors import BuildError

X, POSITIVE, SMALL = floats(2, 3, 4), np.abs(floats(2, 3, 4)) + 0.1, np.tanh(floats(2, 3, 4)) * 0.9
UNARY = [
    ("Relu", X, {}), ("Sigmoid", X, {}), ("Tanh", X, {}), ("Exp", X, {}), ("Log", POSITIVE, {}), ("Sqrt", POSITIVE, {}),
    ("Neg", X, {}), ("Abs", X, {}), ("Floor", X, {}), ("Ceil", X, {}), ("Round", X, {}), ("Erf", X, {}), ("Sign", X,
        {}),
    ("Sin", X, {}), ("Cos", X, {}), ("Tan", SMALL, {}), ("Asin", SMALL, {}), ("Acos", SMALL, {}), ("Atan", X, {}),
    ("Sinh", X, {}), ("Cosh", X, {}), ("Asinh", X, {}), ("Acosh", POSITIVE + 1, {}), ("Atanh", SMALL, {}),
    ("Reciprocal", POSITIVE, {}), ("Softplus", X, {}), ("Softsign", X, {}), ("Mish", X, {"opset": 18}),
    ("HardSwish", X, {}), ("Identity", X, {}), ("LeakyRelu", X, {"alpha": 0.3}), ("LeakyRelu", X, {}),
    ("Elu", X, {"alpha": 0.7}), ("Celu", X, {"alpha": 0.7}), ("ThresholdedRelu", X, {"alpha": 0.4}),
    ("HardSigmoid", X, {}), ("HardSigmoid", X, {"alpha": 0.3, "beta": 0.4}), ("Selu", X, {}),
    ("Selu", X, {"alpha": 1.5, "gamma": 2.0}), ("Shrink", X, {"lambd": 0.4, "bias": 0.4}),
    ("Shrink", X, {"lambd": 0.4}), ("Gelu", X, {"opset": 20}), ("Gelu", X, {"approximate": "tanh", "opset": 20}),
    ("IsNaN", X, {}), ("IsInf", X, {}), ("Not", X > 0, {}),
]  # fmt: skip
BINARY = [
    ("Add", X, X + 1), ("Sub", X, X[0]), ("Mul", X, X[:, :1]), ("Div", X, POSITIVE), ("Pow", POSITIVE, X),
    ("Equal", X, X), ("Less", X, X[0]), ("LessOrEqual", X, X), ("Greater", X, X[0]), ("GreaterOrEqual", X, X),
    ("And", X > 0, X > 1), ("Or", X > 0, X > 1), ("Xor", X > 0, X > 1), ("Max", X, -X), ("Min", X, -X), ("Sum", X, X),
    ("Mean", X, X), ("Mod", np.arange(6) - 3, np.array([4, 4, 4, -4, -4, 5])),
    ("Div", np.array([7, -7, 6]), np.array([2, 2, -4])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "x", "settings"), UNARY, ids=[f"{case[0]}{number}" for number, case in enumerate(UNARY)]
)
def test_an_operator_on_one_value_computes_as_onnx_does(tmp_path, operator, x, settings):
    """Attributes that are left out have ONNX's defaults."""
    opset = settings.get("opset", 17)
    attributes = {name: value for name, value in settings.items() if name != "opset"}

    compare(tmp_path, [node(operator, "x", "y", **attributes)], {"x": x}, {}, opset=opset)


@pytest.mark.parametrize(
    ("operator", "a", "b"), BINARY, ids=[f"{case[0]}{number}" for number, case in enumerate(BINARY)]
)
def test_an_operator_on_two_values_computes_as_onnx_does(tmp_path, operator, a, b):
    """Shapes are broadcast; whole numbers are divided towards 0, and a remainder has the divisor's sign."""
    compare(tmp_path, [node(operator, "a b", "y")], {"a": a, "b": b}, {})


@pytest.mark.parametrize("bounds", ["low high", "low", " high"])
def test_clip_takes_both_bounds_or_one(tmp_path, bounds):
    """Bounds are inputs since opset 11; an empty name leaves one out."""
    arrays = {"low": np.array(-0.5, np.float32), "high": np.array(0.7, np.float32)}

    compare(tmp_path, [node("Clip", f"x {bounds}", "y")], {"x": X}, arrays)


def test_clip_of_old_files_has_its_bounds_as_attributes(tmp_path):
    """Up to opset 10."""
    compare(tmp_path, [node("Clip", "x", "y", min=-0.5, max=0.7)], {"x": X}, {}, opset=7)


def test_clip_between_computed_bounds_is_written_as_two_steps(tmp_path):
    """The bounds are values of the graph."""
    nodes = [node("ReduceMin", "x", "low", keepdims=0), node("Neg", "low", "high"), node("Clip", "z low high", "y")]

    compare(tmp_path, nodes, {"x": X, "z": 2 * X}, {})


@pytest.mark.parametrize(("to", "x"), [(1, np.arange(6)), (7, 3 * X), (6, 3 * X), (9, X), (10, X)])
def test_cast_gives_the_dtype_of_the_file(tmp_path, to, x):
    """Halves are computed as float32."""
    nodes = (
        [node("Cast", "x", "z", to=to), node("Cast", "z", "y", to=1)] if to == 10 else [node("Cast", "x", "y", to=to)]
    )

    compare(tmp_path, nodes, {"x": x}, {}, tolerance=1e-3 if to == 10 else 0)  # half precision


def test_a_slope_of_several_axes_is_written_as_steps(tmp_path):
    """torch's layer has one slope, or one for each channel."""
    compare(tmp_path, [node("PRelu", "x slope", "y")], {"x": X}, {"slope": floats(3, 4)})


def test_where_chooses_by_a_condition(tmp_path):
    """Of three inputs that are broadcast."""
    compare(tmp_path, [node("Where", "c a b", "y")], {"c": X > 0, "a": X, "b": -X[0]}, {})


def test_what_has_no_translation_is_refused_by_name_all_at_once(tmp_path):
    """With the count of the nodes, and a reason where the operator as a whole is known."""
    nodes = [
        node("Shrink", "x", "a", lambd=0.5, bias=0.1, name="first"),
        node("Det", "x", "b", name="second"),
        node("Add", "a b", "y"),
    ]
    path = write_onnx(tmp_path / "net.onnx", nodes, {"x": X}, {"w": floats(2)})

    with pytest.raises(
        BuildError, match=r"2 of 3 nodes of the network have no translation:\n.*first: its bias is 0.1"
    ) as e:
        build_onnx(path)
    assert "Det second" in str(e.value)
