"""Networks built from their files compute what their frameworks recorded, and are plain torch modules."""

import copy
import pickle

import pytest
import torch
from torch import nn

from golden_files import GOLDEN, golden_arrays
from onnx_networks import node, write_onnx
from regraft.building import build_model, planned_network, source_of
from regraft.errors import BuildError
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint
from regraft.saving import load, save

KERAS = [
    ("keras3_image.keras", "keras3_image.npz"),
    ("keras3_image.h5", "keras3_image.npz"),
    ("tf_keras_image.keras", "tf_keras_image.npz"),
    ("tf_keras_image.h5", "tf_keras_image.npz"),
    ("keras3_sequence.keras", "keras3_sequence.npz"),
    ("keras3_sequence.h5", "keras3_sequence.npz"),
    ("tf_keras_sequence.keras", "tf_keras_sequence.npz"),
    ("tf_keras_sequence.h5", "tf_keras_sequence.npz"),
]


def recorded(name):
    """(inputs with their channels second, outputs) of a recording."""
    arrays = golden_arrays(name)
    x = torch.from_numpy(arrays["x"])
    return (x.permute(0, 3, 1, 2) if x.dim() == 4 else x), torch.from_numpy(arrays["y"])


@pytest.mark.parametrize(("file", "recording"), KERAS)
def test_a_built_network_computes_what_its_framework_recorded(file, recording):
    """Every layer of the golden Keras models: convolutions, norms, recurrent layers, attention, wrappers."""
    x, y = recorded(recording)

    model = build_model(open_checkpoint(GOLDEN / file))

    assert not model.training
    torch.testing.assert_close(model(x), y, atol=1e-5 * float(y.abs().max()), rtol=0)  # another order of sums


@pytest.mark.parametrize(("file", "recording"), KERAS[:5:4])
def test_the_plan_fills_every_array_under_the_names_of_the_file(file, recording):
    """Only the counters of batches, which Keras does not have, keep their initial values."""
    built = planned_network(open_checkpoint(GOLDEN / file))

    fresh = [row.target for row in built.plan.rows if row.status == "kept_init"]
    assert built.plan.problems == ()
    assert all(name.endswith("num_batches_tracked") for name in fresh)
    assert {name.split(".")[0] for name in built.model.state_dict()} <= {
        name.split("/")[0] for name in open_checkpoint(GOLDEN / file)
    }


def test_a_built_network_is_copied_and_pickled_with_its_source():
    """A copy computes the same, and knows its source."""
    x, _ = recorded("keras3_image.npz")
    model = build_model(open_checkpoint(GOLDEN / "keras3_image.keras"))

    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))
        assert source_of(other) == source_of(model)
    assert "hidden" in repr(model)


def test_a_built_network_trains_and_takes_any_batch():
    """Norms are in train mode, gradients reach every parameter."""
    model = build_model(open_checkpoint(GOLDEN / "keras3_image.keras")).train()
    before = model.stem_norm.running_mean.clone()

    model(torch.randn(7, 2, 5, 7)).square().sum().backward()

    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not torch.equal(before, model.stem_norm.running_mean)
    assert isinstance(model.hidden, nn.Linear)


def test_the_source_needs_only_torch_and_a_plan_for_it_no_rename(tmp_path):
    """The file that is printed is the model: `plan_reuse` pairs it by the file's own names."""
    checkpoint = open_checkpoint(GOLDEN / "keras3_image.keras")
    built = planned_network(checkpoint)
    scope = {"__name__": "net"}

    exec(compile(built.text, "net.py", "exec"), scope)  # as `python net.py` does

    plan = plan_reuse(checkpoint, scope["Net"]())
    assert "regraft" not in "".join(line for line in built.text.splitlines() if "import" in line)
    assert {row.target: row.sources for row in plan.reused} == {row.target: row.sources for row in built.plan.reused}


def test_weights_without_a_description_are_refused_with_the_way_out():
    """The file has no network."""
    with pytest.raises(BuildError, match=r"holds weights without a description .*\nWrite|Write the network"):
        build_model(open_checkpoint(GOLDEN / "keras3_image.weights.h5"))


def test_a_built_network_with_a_new_head_is_saved_and_loaded_without_its_file(tmp_path):
    """The folder holds its source; only torch is needed to read it."""
    x, _ = recorded("keras3_image.npz")
    checkpoint = open_checkpoint(GOLDEN / "keras3_image.keras")
    model = build_model(checkpoint, head={"classes": 5})

    save(model, tmp_path / "saved")
    other = load(tmp_path / "saved")

    assert model(x).shape == (2, 5)
    assert torch.equal(other(x), model(x))
    assert (tmp_path / "saved" / "net.py").read_text() == source_of(model)


def test_a_head_is_a_number_of_classes():
    """Anything else is answered with the form."""
    with pytest.raises(BuildError, match=r'expected \{"classes": 6\}'):
        build_model(open_checkpoint(GOLDEN / "keras3_image.keras"), head={"outputs": 5})


def test_layers_that_are_named_by_numbers_keep_their_names(tmp_path):
    """As of a torch.nn.Sequential in an ONNX file: a module has no items of its own."""
    plain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4)).eval()
    arrays = {name: tensor.detach().numpy() for name, tensor in plain.named_parameters()}
    nodes = [
        node("Conv", "x 0.weight 0.bias", "c", kernel_shape=[3, 3]),
        node("Flatten", "c", "f"),
        node("Gemm", "f 2.weight 2.bias", "y", transB=1),
    ]
    x = torch.rand(2, 2, 4, 4)
    path = write_onnx(tmp_path / "net.onnx", nodes, {"x": x.numpy()}, arrays)

    model = build_model(open_checkpoint(path))

    assert model.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(model(x), plain(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
