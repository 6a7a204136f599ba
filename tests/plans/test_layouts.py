"""Axis orders: right for each framework's layer, and each wrong variant is seen to be wrong."""

import numpy as np
import pytest
import torch
from torch import nn

from in_memory import checkpoint_of
from regraft.errors import PlanError, UndecidableError
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.operations.moves import Transpose
from regraft.operations.running import run_operations
from regraft.plans.describing import describe_model
from regraft.plans.layouts import STORED, axis_operations, deduced_layout, known_layout, leaf_rules

FLOAT64_SUMS = 1e-10  # the same products in another order of sums


def converted(layout, layer, leaf, stored):
    """The array of ours made of one of theirs."""
    (description,) = describe_model(layer)
    rule = leaf_rules(layout, description)[leaf][0]
    return torch.from_numpy(np.ascontiguousarray(run_operations(rule.operations([stored.shape], {}), [stored])))


def correlation(x, kernel, *, groups=1):
    """A convolution of NHWC maps with an HWIO kernel, written out: no padding, stride 1."""
    height, width, _, out = kernel.shape
    rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
    y = np.zeros((x.shape[0], rows, columns, out))
    for i in range(height):
        for j in range(width):
            y += x[:, i : i + rows, j : j + columns] @ kernel[i, j]
    return y


def test_a_tensorflow_convolution_answers_as_written_out():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 2, 3, 4))

    weight = converted("tensorflow", nn.Conv2d(3, 4, (3, 2)), "weight", kernel)
    got = torch.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), weight).permute(0, 2, 3, 1)

    assert np.abs(got.numpy() - correlation(x, kernel)).max() < FLOAT64_SUMS


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_kernel_keeps_its_multiplier_beside_its_channel(multiplier):
    """Channel c and multiplier m become output c·M + m (a transpose before the reshape mixes them)."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 2, 3, multiplier))

    layer = nn.Conv2d(3, 3 * multiplier, (3, 2), groups=3)
    weight = converted("tensorflow", layer, "weight", kernel)
    got = torch.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), weight, groups=3).permute(0, 2, 3, 1)

    wide = np.zeros((3, 2, 3, 3 * multiplier))
    for channel in range(3):
        wide[:, :, channel, channel * multiplier : (channel + 1) * multiplier] = kernel[:, :, channel]
    assert np.abs(got.numpy() - correlation(x, wide)).max() < FLOAT64_SUMS


def test_a_grouped_kernel_with_one_input_is_not_taken_for_a_depthwise_one():
    kernel = np.random.default_rng(0).normal(size=(3, 2, 1, 6))

    weight = converted("tensorflow", nn.Conv2d(3, 6, (3, 2), groups=3), "weight", kernel)

    assert np.array_equal(weight.numpy(), kernel.transpose(3, 2, 0, 1))


@pytest.mark.parametrize(
    ("layout", "kind"),
    [(layout, kind) for layout, kinds in STORED.items() for kind in kinds if kind != "depthwise"],
)
def test_every_layout_has_each_axis_once(layout, kind):
    words = [word for word in STORED[layout][kind].split() if word not in ("*", "flip")]

    assert sorted(words) == ["in", "out"]


def test_theano_kernels_are_turned_round():
    kernel = np.arange(2 * 1 * 2 * 3.0).reshape(2, 1, 2, 3)

    weight = converted("theano", nn.Conv2d(1, 2, (2, 3)), "weight", kernel)

    assert np.array_equal(weight.numpy(), kernel[:, :, ::-1, ::-1])


def test_a_pointwise_convolution_fills_a_dense_layer():
    kernel = np.arange(6.0).reshape(1, 1, 2, 3)

    weight = converted("tensorflow", nn.Linear(2, 3), "weight", kernel)

    assert np.array_equal(weight.numpy(), kernel[0, 0].T)


def test_a_dense_kernel_fills_a_pointwise_convolution():
    kernel = np.arange(6.0).reshape(2, 3)

    weight = converted("tensorflow", nn.Conv2d(2, 3, 1), "weight", kernel)

    assert np.array_equal(weight.numpy(), kernel.T[:, :, None, None])


def test_the_words_of_a_transpose_follow_the_rank():
    assert str(axis_operations("* in out", "out in *", (5, 2, 3))[0]) == "(w, in, out) -> (out, in, w)"
    assert axis_operations("out in *", "out in *", (5, 2, 3)) == ()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.kernel", "a.bias"], "tensorflow-or-flax"),
        (["params.a.kernel", "params.a.bias"], "flax"),
        (["a.kernel", "n.mean", "n.var"], "flax"),
        (["a.kernel", "n.scale", "m.gamma"], None),
        (["a.kernel", "n.gamma", "n.moving_variance"], "tensorflow"),
        (["a.weights", "a.biases"], "tensorflow"),
        (["a.kernel", "n.scale", "n.bias"], "flax"),
        (["a.weight", "n.running_mean"], "torch"),
        (["a.weight", "a.bias"], "torch"),
        (["a.w", "a.b"], None),
        (["net.~.linear.w", "net.~.bn.~.mean_ema.average"], "haiku"),
        (["conv.weight", "bn.weight", "bn._mean"], "paddle"),
        (["arr_0", "arr_1"], None),
        (["a.weight", "b.weights"], None),
    ],
)
def test_leaf_names_tell_a_layout_or_nothing(names, expected):
    assert deduced_layout(names)[0] == expected


@pytest.mark.parametrize(
    ("layout", "kernel", "expected"),
    [
        ("haiku", (3, 3, 2, 5), "(h, w, in, out) -> (out, in, h, w)"),
        ("mlx", (5, 3, 3, 2), "(out, h, w, in) -> (out, in, h, w)"),
        ("paddle", (5, 2, 3, 3), ""),
    ],
)
def test_kernels_of_haiku_mlx_and_paddle(layout, kernel, expected):
    """As their documentation has them: hk.Conv2D's w is HWIO, mlx.nn.Conv2d's weight OHWI, paddle's OIHW."""
    layer = describe_model(nn.Conv2d(2, 5, 3))[0]

    operations = leaf_rules(layout, layer)["weight"][0].operations([kernel], {})

    assert ", ".join(map(str, operations)) == expected
    assert STORED[layout]["dense"] == ("out in" if layout == "mlx" else "in out")


@pytest.mark.parametrize("shape", [(1, 1, 1, 6), (6, 1, 1), (1, 6, 1, 1), (6,)])
def test_vectors_of_a_norm_may_have_axes_of_one(shape):
    """Haiku's have (1, 1, 1, c)."""
    source = {f"bn/{leaf}": np.arange(6.0, dtype="float32").reshape(shape) for leaf in ("scale", "offset")}
    source |= {f"bn/~/{leaf}/average": np.ones(shape, "float32") for leaf in ("mean_ema", "var_ema")}

    plan = plan_reuse(checkpoint_of(source), nn.ModuleDict({"bn": nn.BatchNorm2d(6)}))

    assert (plan.layout, plan.problems) == ("haiku", ())


def test_a_layout_has_aliases_and_an_unknown_one_is_answered_with_the_known():
    assert known_layout("Keras") == "tensorflow"
    with pytest.raises(PlanError, match=r"no layout 'numpy'. Layouts: torch, onnx, caffe"):
        known_layout("numpy")


def test_a_lone_kernel_of_a_transposed_convolution_is_undecidable():
    """TensorFlow stores (h, w, out, in), Flax (h, w, in, out) turned round: equal channels would fit both."""
    with pytest.raises(UndecidableError, match=r'(?s)layout="tensorflow".*layout="flax"'):
        converted("tensorflow-or-flax", nn.ConvTranspose2d(4, 4, 3), "weight", np.zeros((3, 3, 4, 4)))


def test_a_dense_kernel_of_onnx_is_decided_by_its_node_alone():
    """A square kernel fits both ways: what the node says decides, and without it nothing does."""
    rule = leaf_rules("onnx", describe_model(nn.Linear(3, 3))[0])["weight"][0]

    assert rule.operations([(3, 3)], {"kernel_axes": ["out", "in"]}) == ()
    assert rule.operations([(3, 3)], {"kernel_axes": ["in", "out"]}) == (Transpose((1, 0), ("in", "out")),)
    with pytest.raises(UndecidableError, match="not record how onnx orders the axes of this dense kernel"):
        rule.operations([(3, 3)], {})


def test_a_flattened_map_that_the_file_tells_of_is_reordered():
    """The same numbers as flattening (c, h, w) instead of (h, w, c) before the layer."""
    generator = np.random.default_rng(0)
    kernel, maps = generator.normal(size=(2 * 3 * 4, 5)), generator.normal(size=(7, 2, 3, 4))
    rule = leaf_rules("tensorflow", describe_model(nn.Linear(24, 5))[0])["weight"][0]

    operations = rule.operations([kernel.shape], {"flatten_order": "channels_last", "flatten_channels": 4})
    weight = run_operations(operations, [kernel])

    ours = maps.transpose(0, 3, 1, 2).reshape(7, -1) @ weight.T
    assert np.allclose(ours, maps.reshape(7, -1) @ kernel, atol=1e-12)  # float64, other order of sums


@pytest.mark.parametrize("facts", [{"flatten_order": "permuted"}, {"flatten_order": "channels_last"}])
def test_a_flattened_map_of_unknown_form_is_undecidable(facts):
    rule = leaf_rules("tensorflow", describe_model(nn.Linear(24, 5))[0])["weight"][0]

    with pytest.raises(UndecidableError, match="flatten HxWxC"):
        rule.operations([(24, 5)], facts)


@pytest.mark.parametrize(
    ("theirs", "ours", "shape"),
    [
        (lambda: nn.Conv2d(4, 6, 1), lambda: nn.Linear(4, 6), (5, 4)),
        (lambda: nn.Linear(4, 6), lambda: nn.Conv2d(4, 6, 1), (5, 4)),
        (lambda: nn.Linear(4, 6), lambda: nn.Conv1d(4, 6, 1), (5, 4)),
    ],
)
def test_a_pointwise_convolution_and_a_dense_layer_are_one_in_torchs_files_too(theirs, ours, shape):
    source, model = nn.ModuleDict({"a": theirs()}), nn.ModuleDict({"a": ours()})
    arrays = {name: tensor.detach().numpy() for name, tensor in source.state_dict().items()}
    checkpoint, x = checkpoint_of(arrays, layout="torch"), torch.randn(shape)

    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)

    assert torch.allclose(outputs(model["a"], x), outputs(source["a"], x), atol=1e-6)  # float32, other kernels


def outputs(layer, x):
    places = (...,) + (None,) * (layer.weight.ndim - 2)
    return layer(x[places]).flatten(1)


@pytest.mark.parametrize("layout", ["flax", "tensorflow", "haiku"])
def test_projections_with_an_axis_of_heads_fill_dense_layers(layout):
    """(in, heads, size) and (heads, size, out), as Flax' attention has them; the bias is (heads, size)."""
    rng = np.random.default_rng(0)
    x, query, out = rng.normal(size=(3, 8)), rng.normal(size=(8, 2, 5)), rng.normal(size=(2, 5, 8))
    bias = rng.normal(size=(2, 5))

    weight = converted(layout, nn.Linear(8, 10), "weight", query)
    shift = converted(layout, nn.Linear(8, 10), "bias", bias)
    back = converted(layout, nn.Linear(10, 8), "weight", out)

    expected = np.einsum("ni,ihs->nhs", x, query) + bias
    got = torch.from_numpy(x) @ weight.T + shift
    assert np.abs(got.reshape(3, 2, 5).numpy() - expected).max() < FLOAT64_SUMS
    assert np.abs((got @ back.T).numpy() - np.einsum("nhs,hso->no", expected, out)).max() < FLOAT64_SUMS


@pytest.mark.parametrize("names", [("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q", "k", "v")])
@pytest.mark.parametrize("biases", ["three", "two", "none"])
def test_queries_keys_and_values_fill_one_projection(names, biases):
    """timm's qkv from the three layers of transformers; BEiT has no bias of the keys."""
    parts = [nn.Linear(4, 6, bias=biases != "none") for _ in names]
    if biases == "two":
        parts[1] = nn.Linear(4, 6, bias=False)
    source = nn.ModuleDict({"attention": nn.ModuleDict(dict(zip(names, parts, strict=True)))})
    model = nn.ModuleDict({"qkv": nn.Linear(4, 18, bias=biases != "none")})
    arrays = {name: tensor.detach().numpy() for name, tensor in source.state_dict().items()}
    checkpoint, x = checkpoint_of(arrays, layout="torch"), torch.randn(3, 4)

    plan = plan_reuse(checkpoint, model, rename={r"attention\.(.*)": r"qkv.\1"})
    apply_plan(plan, checkpoint, model)

    expected = torch.cat([part(x) for part in parts], 1)
    assert torch.allclose(model["qkv"](x), expected, atol=1e-6)  # float32: one product in place of three
