"""Poolings and activations between paired layers: another function is a row with a way out, the same one is none."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from in_memory import arrays_of, checkpoint_of, keras_arrays_of
from regraft.arrays import Requirement
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.tf_layers import SameMaxPool2d


class Net(nn.Module):
    """stem → activation → pool → (branch + shortcut) → fc"""

    def __init__(self, act=nn.ReLU, pool=None):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 1)
        self.act = act()
        self.pool = pool or nn.MaxPool2d(3, 2, 1)
        self.branch = nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        x = self.pool(self.act(self.stem(x)))
        x = functional.relu(self.branch(x)) + x
        return self.fc(x.mean((2, 3)))


POOL = {"pool": "max", "pool_size": [3, 3], "strides": [2, 2], "padding": "same"}
WIRING = {
    "a": ([], "Conv2D", {"activation": "relu"}),
    "p": (["a"], "MaxPooling2D", POOL),
    "b": (["p"], "Conv2D", {}),
    "r": (["b"], "ReLU", {"activation": "relu"}),
    "s": (["r", "p"], "Add", {}),
    "g": (["s"], "GlobalAveragePooling2D", {}),
    "c": (["g"], "Dense", {}),
}


def source_of(model, **changed):
    arrays = keras_arrays_of({"a": model.stem, "b": model.branch, "c": model.fc})
    told = []
    for layer, (inputs, operation, facts) in (WIRING | changed).items():
        facts = {"inputs": inputs, "operation": operation, **facts}
        told += [Requirement(layer, attribute, value) for attribute, value in facts.items()]
    return checkpoint_of(arrays, layout="tensorflow", requirements=tuple(told))


def told(plan):
    return {row.name: (str(row.required), str(row.found)) for row in plan.requirements if row.is_problem}


def test_another_padding_of_a_pooling_is_a_row_that_the_plan_can_adopt():
    theirs = Net(pool=SameMaxPool2d(3, 2)).eval()
    checkpoint, ours = source_of(theirs), Net().eval()

    plan = plan_reuse(checkpoint, ours, match="structure")
    adopted = plan_reuse(checkpoint, ours, match="structure", adopt=".*")
    apply_plan(adopted, checkpoint, ours)

    x = torch.randn(2, 2, 8, 6)
    assert told(plan) == {"pool.pool": ("max 3x3, stride 2x2, padding same", "max 3x3, stride 2x2, padding 1x1")}
    assert torch.equal(ours(x), theirs(x))
    assert not told(plan_reuse(checkpoint, ours, match="structure"))


def test_the_same_functions_are_no_rows():
    checkpoint = source_of(Net())

    assert not told(plan_reuse(checkpoint, Net(pool=SameMaxPool2d(3, 2)), match="structure"))


@pytest.mark.parametrize(
    ("layer", "facts", "expected"),
    [
        ("a", {"activation": "relu6"}, {"act.activation": ("relu6", "relu")}),
        ("a", {}, {"act.activation": ("no activation", "relu")}),
        ("r", {"activation": "tanh"}, {"relu": ("tanh", "relu")}),
        ("r", {"activation": "linear"}, {"relu": ("no activation", "relu")}),
        ("p", {**POOL, "pool": "average"}, {"pool.pool": ("average 3x3, stride 2x2, padding same",) * 1}),
        ("s", {"activation": "relu"}, {}),
    ],
)
def test_each_place_of_the_model_has_a_row_of_its_own(layer, facts, expected):
    inputs, operation, _ = WIRING[layer]
    checkpoint = source_of(Net(), **{layer: (inputs, operation, facts)})

    found = told(plan_reuse(checkpoint, Net(pool=SameMaxPool2d(3, 2)), match="structure"))

    assert {name: pair[: len(expected[name])] for name, pair in found.items()} == expected


def test_a_pooling_that_the_model_lacks_is_put_where_it_belongs():
    """Only the shortcut is pooled: the sum's second input."""
    checkpoint = source_of(
        Net(),
        b=(["p"], "Conv2D", {"strides": [2, 2]}),
        q=(["p"], "MaxPooling2D", {"pool": "max", "pool_size": [1, 1], "strides": [2, 2], "padding": "valid"}),
        s=(["r", "q"], "Add", {}),
    )
    ours = Net(pool=SameMaxPool2d(3, 2)).eval()

    plan = plan_reuse(checkpoint, ours, match="structure", adopt=".*")
    apply_plan(plan, checkpoint, ours)

    assert [row.name for row in plan.adopted] == ["branch.stride", "add.1"]
    assert ours(torch.randn(1, 2, 8, 8)).shape == (1, 2)


def test_an_operation_without_a_name_is_a_problem_where_one_side_alone_has_it():
    class Own(nn.Module):
        def forward(self, x):
            return torch.special.entr(x)

    ours = Net(act=Own, pool=SameMaxPool2d(3, 2))
    same = source_of(Net(), a=([], "Conv2D", {}), o=(["a"], "Own", {}), p=(["o"], "MaxPooling2D", POOL))

    assert told(plan_reuse(source_of(Net()), ours, match="structure")) == {"act.special_entr": ("relu", "special_entr")}
    assert not told(plan_reuse(same, ours, match="structure"))


class Scaled(nn.Module):
    """conv → × 2.5 → fc"""

    def __init__(self, factor=2.5):
        super().__init__()
        self.a, self.c, self.factor = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1), factor

    def forward(self, x):
        return self.c(self.a(x) * self.factor)


def scaled_source(*facts):
    """conv → the steps of these facts → fc"""
    arrays = keras_arrays_of({"a": nn.Conv2d(2, 3, 1), "c": nn.Conv2d(3, 2, 1)})
    layers = {"a": ([], "Conv2D", {}), **{f"s{n}": (["a" if n == 0 else f"s{n - 1}"], *f) for n, f in enumerate(facts)}}
    layers["c"] = ([list(layers)[-1]], "Conv2D", {})
    rows = [
        Requirement(layer, attribute, value)
        for layer, (inputs, operation, more) in layers.items()
        for attribute, value in {"inputs": inputs, "operation": operation, **more}.items()
    ]
    return checkpoint_of(arrays, layout="tensorflow", requirements=tuple(rows))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([("Multiply", {"function": [2.5, 0.0]})], {}),
        ([("Multiply", {"function": [5.0, 0.0]}), ("Multiply", {"function": [0.5, 0.0]})], {}),
        ([("Multiply", {"function": [2.0, 0.0]})], {"mul": ("times 2", "times 2.5")}),
        ([], {"mul": ("no operation", "times 2.5")}),
        ([("Multiply", {"function": [2.5, 0.0]}), ("Abs", {"function": "abs"})], {"c.0": ("abs", "no operation")}),
        ([("Lambda", {})], {"mul": ("Lambda", "times 2.5")}),
    ],
)
def test_numbers_between_two_layers_are_compared(facts, expected):
    assert told(plan_reuse(scaled_source(*facts), Scaled())) == expected


def test_what_a_network_does_to_its_own_input_is_shown_but_stops_nothing():
    """Whoever feeds the model may have scaled the pixels already."""
    rescaled = source_of(
        Net(pool=SameMaxPool2d(3, 2)),
        i=([], "Rescaling", {"function": [1 / 255, -1.0]}),
        a=(["i"], "Conv2D", {"activation": "relu"}),
    )

    plan = plan_reuse(rescaled, Net(pool=SameMaxPool2d(3, 2)), match="structure")

    assert not plan.problems
    assert [row.note for row in plan.requirements if row.name == "input"] == [
        "the source's network does this to its input: times 0.00392157 plus -1; the model: no operation"
    ]


class Joined(nn.Module):
    """Two convolutions of one input, joined."""

    def __init__(self, join):
        super().__init__()
        self.a, self.b, self.c, self.join = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1), join

    def forward(self, x):
        return self.c(self.join(self.a(x), self.b(x)))


def joined_source(operation):
    arrays = keras_arrays_of({name: nn.Conv2d(2, 3, 1) for name in "ab"} | {"c": nn.Conv2d(3, 2, 1)})
    wiring = {"a": ([], "Conv2D"), "b": ([], "Conv2D"), "j": (["a", "b"], operation), "c": (["j"], "Conv2D")}
    rows = [row for layer, (inputs, word) in wiring.items()
            for row in (Requirement(layer, "inputs", inputs), Requirement(layer, "operation", word))]  # fmt: skip
    return checkpoint_of(arrays, layout="tensorflow", requirements=tuple(rows))


@pytest.mark.parametrize(
    ("operation", "join", "expected"),
    [
        ("Subtract", torch.sub, {}),
        ("Add", lambda a, b: b + a, {}),
        ("Maximum", torch.maximum, {}),
        ("Subtract", torch.add, {"c.inputs": ("a - b", "a + b")}),
        ("Subtract", lambda a, b: b - a, {"c.inputs": ("a - b", "b - a")}),
        ("Multiply", torch.add, {"c.inputs": ("a · b", "a + b")}),
        ("Concatenate", lambda a, b: torch.cat([b[:, :0], a], 1), {"c.inputs": ("a, b", "b, a")}),
        ("Add", lambda a, b: a, {"c.inputs": ("a + b", "a")}),
    ],
)
def test_layers_that_are_joined_otherwise_are_a_problem(operation, join, expected):
    """Names and shapes fit, and the values would be others."""
    assert told(plan_reuse(joined_source(operation), Joined(join))) == expected


def test_a_layer_of_the_file_between_two_of_ours_is_missed():
    """A norm without statistics leaves no array that the model could miss."""
    arrays = keras_arrays_of({"a": nn.Conv2d(2, 3, 1), "c": nn.Conv2d(3, 2, 1)})
    arrays |= {"n/gamma": torch.ones(3).numpy(), "n/beta": torch.zeros(3).numpy()}
    wiring = {"a": ([], "Conv2D"), "n": (["a"], "LayerNormalization"), "c": (["n"], "Conv2D")}
    rows = [row for layer, (inputs, word) in wiring.items()
            for row in (Requirement(layer, "inputs", inputs), Requirement(layer, "operation", word))]  # fmt: skip
    checkpoint = checkpoint_of(arrays, layout="tensorflow", requirements=tuple(rows))

    assert told(plan_reuse(checkpoint, Scaled(1.0))) == {"c.inputs": ("n", "a")}


def test_names_that_fit_are_compared_as_well():
    """The rows need the wiring, not the pairing by it."""
    model = Net()
    names = {"a": "stem", "b": "branch", "c": "fc"}
    wiring = {names.get(k, k): ([names.get(i, i) for i in one[0]], *one[1:]) for k, one in WIRING.items()}
    told_facts = tuple(
        Requirement(layer, attribute, value)
        for layer, (inputs, operation, facts) in wiring.items()
        for attribute, value in {"inputs": inputs, "operation": operation, **facts}.items()
    )
    arrays = keras_arrays_of({"stem": model.stem, "branch": model.branch, "fc": model.fc})

    plan = plan_reuse(checkpoint_of(arrays, layout="tensorflow", requirements=told_facts), model)

    assert list(told(plan)) == ["pool.pool"]


def test_an_activation_behind_the_last_layer_is_told_and_stops_nothing():
    checkpoint = source_of(Net(), c=(["g"], "Dense", {"activation": "softmax"}))

    plan = plan_reuse(checkpoint, Net(pool=SameMaxPool2d(3, 2)), match="structure")

    (row,) = [row for row in plan.requirements if row.attribute == "output"]
    assert (row.status, row.required, row.found) == ("accepted", "softmax", "no activation")


def test_one_module_that_stands_for_two_functions_cannot_be_adopted():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (nn.Linear(2, 2) for _ in range(3))
            self.act = nn.ReLU()

        def forward(self, x):
            return self.three(self.act(self.two(self.act(self.one(x)))))

    model = Shared()
    wiring = {"a": ([], "tanh"), "b": (["a"], "sigmoid"), "c": (["b"], "linear")}
    facts = tuple(
        Requirement(layer, attribute, value)
        for layer, (inputs, act) in wiring.items()
        for attribute, value in {"inputs": inputs, "operation": "Dense", "activation": act}.items()
    )
    arrays = keras_arrays_of({"a": model.one, "b": model.two, "c": model.three})
    checkpoint = checkpoint_of(arrays, layout="tensorflow", requirements=facts)

    (row,) = [row for row in plan_reuse(checkpoint, model, match="structure").requirements if row.is_problem]

    assert (row.name, row.required, row.adoptable) == ("act.activation", "tanh; sigmoid", False)
    assert "use a module of its own for each" in row.note


class OwnPad(nn.Module):
    """Pads by a module or a call of its own before the convolution and the pooling."""

    def __init__(self, pad, *, padding=0, pool=None):
        super().__init__()
        self.pad, self.pool = pad, pool or nn.Identity()
        self.conv = nn.Conv2d(2, 3, 3, padding=padding)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(self.pool(self.conv(self.pad(x)).relu()).mean((2, 3)))


class Call(nn.Module):
    def __init__(self, *widths, **more):
        super().__init__()
        self.widths, self.more = widths, more

    def forward(self, x):
        return functional.pad(x, self.widths, **self.more)


def padded_source(model, padding=(1, 1)):
    layers = {
        "a": ([], "Conv2D", {"activation": "relu", "padding": [[side, side] for side in padding]}),
        "g": (["a"], "GlobalAveragePooling2D", {}),
        "c": (["g"], "Dense", {}),
    }
    facts = tuple(
        Requirement(layer, attribute, value)
        for layer, (inputs, operation, more) in layers.items()
        for attribute, value in {"inputs": inputs, "operation": operation, **more}.items()
    )
    return checkpoint_of(keras_arrays_of({"a": model.conv, "c": model.fc}), layout="tensorflow", requirements=facts)


@pytest.mark.parametrize(
    "pad", [nn.ZeroPad2d(1), nn.ConstantPad2d(1, 0.0), Call(1, 1, 1, 1), Call(1, 1, 1, 1, value=0)]
)
def test_zeros_that_the_model_adds_by_itself_count_as_the_convolution_s(pad):
    """Else adopting the padding would add them twice to a model that is right."""
    theirs, ours = OwnPad(nn.Identity(), padding=1).eval(), OwnPad(pad).eval()
    checkpoint = padded_source(theirs)
    twice = plan_reuse(checkpoint, OwnPad(pad, padding=1), match="structure", adopt=".*")

    plan = plan_reuse(checkpoint, ours, match="structure", adopt=".*")
    apply_plan(plan, checkpoint, ours)
    x = torch.randn(2, 2, 7, 6)

    assert torch.equal(ours(x), theirs(x))
    assert [(row.name, row.found, row.adoptable) for row in twice.problems] == [("conv.padding", (2, 2), False)]


@pytest.mark.parametrize("pad", [nn.ReflectionPad2d(1), nn.ConstantPad2d(1, 3.0), Call(1, 1, 1, 1, mode="reflect")])
def test_other_paddings_of_the_model_are_not_added_to(pad):
    plan = plan_reuse(padded_source(OwnPad(nn.Identity(), padding=1)), OwnPad(pad), match="structure", adopt=".*")

    assert [(row.name, row.adoptable) for row in plan.problems] == [("conv.padding", False)]


class Global(nn.Module):
    """Pools all places at once, whatever the size of the map."""

    def __init__(self, how):
        super().__init__()
        self.stem, self.how, self.fc = nn.Conv2d(2, 3, 1), how, nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(self.how(self.stem(x)))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


@pytest.mark.parametrize("how", [Mean(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())])
def test_a_pooling_is_not_put_where_no_map_is_left(how):
    """An average over the whole map may be written with its size: behind the flatten it would fail."""
    model = Global(how)
    layers = {
        "a": ([], "Conv2D", {}),
        "p": (["a"], "AveragePooling2D", {"pool": "average", "pool_size": [4, 4], "strides": [1, 1]}),
        "c": (["p"], "Dense", {}),
    }
    facts = tuple(
        Requirement(layer, attribute, value)
        for layer, (inputs, operation, more) in layers.items()
        for attribute, value in {"inputs": inputs, "operation": operation, **more}.items()
    )
    arrays = keras_arrays_of({"a": model.stem, "c": model.fc})
    checkpoint = checkpoint_of(arrays, layout="tensorflow", requirements=facts)

    plan = plan_reuse(checkpoint, model, match="structure", adopt=".*")

    assert [(row.name, row.adoptable) for row in plan.problems] == [("fc.0", False)]
    assert not plan_reuse(checkpoint, model, match="structure", accept=r"fc\.0").problems


def wired(arrays, wiring, layout="tensorflow"):
    """A file of these arrays; layer → (inputs, operation, facts)."""
    rows = [
        Requirement(layer, attribute, value)
        for layer, (inputs, operation, facts) in wiring.items()
        for attribute, value in {"inputs": inputs, "operation": operation, **facts}.items()
    ]
    return checkpoint_of(arrays, layout=layout, requirements=tuple(rows))


def test_a_norm_that_is_folded_into_the_model_is_not_missed():
    theirs = nn.Conv2d(2, 3, 1)
    arrays = keras_arrays_of({"a": theirs, "n": nn.BatchNorm2d(3), "c": nn.Conv2d(3, 2, 1)})
    wiring = {"a": ([], "Conv2D", {}), "n": (["a"], "BatchNormalization", {}), "c": (["n"], "Conv2D", {})}

    model, checkpoint = Scaled(1.0).eval(), wired(arrays, wiring)

    plan = plan_reuse(checkpoint, model, adapt={r"a\..*": "fold norm n"})
    apply_plan(plan, checkpoint, model)

    assert torch.allclose(model.a.weight, theirs.weight / (1 + 1e-3) ** 0.5)


def test_a_norm_that_the_file_has_folded_is_fed_as_in_the_model():
    """Its bias fills the norm, which the layer before it feeds on both sides."""

    class WithNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.n, self.c = nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.c(self.n(self.a(x)))

    arrays = arrays_of(nn.ModuleDict({"a": nn.Conv2d(2, 3, 1), "c": nn.Conv2d(3, 2, 1)}))
    wiring = {"a": ([], "Conv", {}), "c": (["a"], "Conv", {})}

    plan = plan_reuse(wired(arrays, wiring, "onnx"), WithNorm())

    assert [row.sources for row in plan.rows if row.target == "n.bias"] == [("a.bias",)]
    assert not told(plan)


def test_numbers_inside_an_attention_are_not_compared():
    """Frameworks cut it into other pieces, and scale queries, keys or their product."""

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.c(torch.matmul(self.q(x), self.k(x)))

    arrays = keras_arrays_of({name: nn.Linear(4, 4) for name in "qk"} | {"c": nn.Linear(4, 2)})
    wiring = {
        "q": ([], "Dense", {}), "k": ([], "Dense", {}), "s": (["q"], "Multiply", {"function": [0.5, 0.0]}),
        "m": (["s", "k"], "MatMul", {}), "c": (["m"], "Dense", {}),
    }  # fmt: skip

    assert not told(plan_reuse(wired(arrays, wiring), Product()))
