"""The network of a prototxt."""

import shutil

import pytest
import torch

from golden_files import GOLDEN, golden_arrays
from regraft.building import build_model
from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint

PROTOTXT = """
name: "small"
input: "data" input_dim: 10 input_dim: 2 input_dim: 5 input_dim: 6
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 pad: 1 stride: 2 kernel_h: 3 kernel_w: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { eps: 2e-3 } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 3 } }
"""


def opened(folder, text):
    """The golden weights beside this prototxt."""
    shutil.copy(GOLDEN / "caffe.caffemodel", folder / "net.caffemodel")
    (folder / "net.prototxt").write_text(text)
    return open_checkpoint(folder / "net.caffemodel")


def test_a_prototxt_is_built_and_computes_caffe_s_numbers(tmp_path):
    """A batch-norm takes the scale behind it; a layer may write into the blob that it reads."""
    golden = golden_arrays("caffe.npz")

    model = build_model(opened(tmp_path, PROTOTXT))

    expected = torch.from_numpy(golden["y"])
    torch.testing.assert_close(model(torch.from_numpy(golden["x"])[None])[0], expected, atol=1e-5, rtol=0)
    assert [name for name, _ in model.named_children()] == ["conv", "bn", "fc"]


def test_what_has_no_translation_is_listed(tmp_path):
    """By type and name; layers of the training alone are left out."""
    more = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" top: "loss" include { phase: TRAIN } }'
    crop = 'layer { name: "cut" type: "Crop" bottom: "fc" top: "cut" }'

    network = network_of(opened(tmp_path, PROTOTXT + more + crop))

    assert [str(entry) for entry in network.untranslated] == ["Crop cut"]


@pytest.mark.parametrize("rule", ["", "round_mode: FLOOR"])
def test_poolings_count_the_rest_of_a_map(tmp_path, rule):
    """Caffe rounds up unless it is asked not to."""
    settings = f"pooling_param {{ kernel_size: 2 stride: 2 {rule} }}"
    pool = f'layer {{ name: "p" type: "Pooling" bottom: "conv" top: "p" {settings} }}'

    network = network_of(opened(tmp_path, PROTOTXT.replace('layer { name: "fc"', pool + ' layer { name: "fc"')))

    assert [node.settings["ceil"] for node in network.nodes if node.operator == "max_pool"] == [not rule]
