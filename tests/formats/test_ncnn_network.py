"""ncnn's `.param`: what each layer keeps, how it is set and connected."""

import pytest

from regraft.errors import CheckpointError
from regraft.formats.ncnn_network import read_ncnn_network


def described(folder, *lines):
    path = folder / "n.param"
    path.write_text("\n".join(["7767517", f"{len(lines)} 9", *lines]))
    return read_ncnn_network(path)


@pytest.mark.parametrize(
    ("line", "shapes"),
    [
        ("Convolution1D c 1 1 x y 0=4 1=3 6=24 5=1", {"weight": (4, 2, 3), "bias": (4,)}),
        ("Convolution3D c 1 1 x y 0=4 1=3 11=2 21=1 6=48", {"weight": (4, 2, 1, 2, 3)}),
        ("ConvolutionDepthWise c 1 1 x y 0=4 1=3 6=72 7=2", {"weight": (4, 2, 3, 3)}),
        ("Embed c 1 1 x y 0=4 1=9 2=0 3=36", {"weight": (9, 4)}),
        ("Scale c 1 1 x y 0=4 1=1", {"weight": (4,), "bias": (4,)}),
        ("Scale c 2 1 x z y 0=-233", {}),
        ("LayerNorm c 1 1 x y 0=4", {"weight": (4,), "bias": (4,)}),
        ("GroupNorm c 1 1 x y 0=2 1=4 3=0", {}),
        ("RMSNorm c 1 1 x y 0=4", {"weight": (4,)}),
        ("MemoryData c 0 1 y 0=2 1=3 2=4", {"data": (4, 3, 2)}),
        (
            "MultiHeadAttention c 1 1 x y 0=4 1=2 2=24",
            {
                **{f"{part}_proj.weight": (4, 6 if part == "q" else 4) for part in "qkv"},
                **{f"{part}_proj.bias": (4,) for part in "qkv"},
                "out_proj.weight": (6, 4),
                "out_proj.bias": (6,),
            },
        ),
    ],
)
def test_each_layer_keeps_what_ncnn_loads(tmp_path, line, shapes):
    """The sizes follow from the settings; ncnn's tables of operators give the order."""
    assert {array.leaf: array.shape for array in described(tmp_path, line).stored} == shapes


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("Convolution c 1 1 x y 0=1 1=3 6=9 4=-233", ("padding", "same")),
        ("Convolution c 1 1 x y 0=1 1=3 6=9 4=1 15=2 14=3 16=4", ("padding", [[3, 4], [1, 2]])),
        ("Convolution c 1 1 x y 0=1 1=3 6=9 4=1 18=0.5", ("padding", "0.5 of [[1, 1], [1, 1]]")),
        ("Convolution c 1 1 x y 0=1 1=3 6=9 9=3 -23310=2,0.0,6.0", ("activation", "relu6")),
        ("Deconvolution c 1 1 x y 0=1 1=2 6=4 18=1 19=2", ("output_padding", [2, 1])),
        ("Pooling c 1 1 x y 0=1 1=3 2=2 3=1 5=1 6=1", ("count_include_pad", True)),
        ("Pooling c 1 1 x y 0=0 1=3 2=2 5=0", ("ceil_mode", True)),
        ("Pooling c 1 1 x y 0=0 4=1", ("operation", "GlobalMaxPooling2D")),
        ("ReLU c 1 1 x y 0=0.1", ("activation", "leaky_relu(0.1)")),
        ("ELU c 1 1 x y 0=1.0", ("activation", "elu(1)")),
        ("BinaryOp c 2 1 x z y 0=2", ("operation", "Mul")),
        ("Eltwise c 2 1 x z y 0=1", ("operation", "Add")),
        ("GroupNorm c 1 1 x y 0=2 1=4 2=0.01", ("eps", 0.01)),
    ],
)
def test_settings_are_those_of_the_file(tmp_path, line, fact):
    facts = {requirement.attribute: requirement.value for requirement in described(tmp_path, line).wiring}

    assert facts[fact[0]] == fact[1]


def test_layers_are_connected_by_their_blobs(tmp_path):
    network = described(tmp_path, "Input in 0 1 x", "ReLU a 1 1 x y", "Concat b 2 1 x y z")

    inputs = {fact.layer: fact.value for fact in network.wiring if fact.attribute == "inputs"}
    assert inputs == {"a": [""], "b": ["", "a"]}


@pytest.mark.parametrize(
    ("text", "match"),
    [("7767518\n", "does not begin with 7767517"), ("7767517\n1 1\nReLU r 1", "cannot be read"), ("", "begin")],
)
def test_a_damaged_network_is_refused_by_name(tmp_path, text, match):
    (tmp_path / "n.param").write_text(text)

    with pytest.raises(CheckpointError, match=rf"(?s)n\.param.*{match}"):
        read_ncnn_network(tmp_path / "n.param")
