"""Keras files against what the frameworks held in memory when they wrote them."""

import re
import zipfile

import h5py
import numpy as np
import pytest

from golden_files import GOLDEN, facts_of, golden_arrays
from regraft.errors import CheckpointError
from regraft.formats.format import HEAD_BYTES
from regraft.formats.keras import KerasArchive, KerasH5
from shared import CHECKPOINTS, MNIST, needs_shared

FILES = [
    "keras3_image.keras", "keras3_image.h5", "keras3_image.weights.h5", "keras3_sequence.keras", "keras3_sequence.h5",
    "keras3_sequence.weights.h5", "tf_keras_image.keras", "tf_keras_image.h5", "tf_keras_image_weights_only.h5",
    "tf_keras_sequence.keras", "tf_keras_sequence.h5", "tf_keras_sequence_weights_only.h5",
]  # fmt: skip
DESCRIBED = [name for name in FILES if not re.search(r"weights", name)]


def opened(path):
    """The checkpoint by the one Keras reader that recognises the file."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    (reader,) = [one for one in (KerasH5(), KerasArchive()) if one.recognises(path, head)]
    return reader.open(path)


def in_memory(name):
    """The weights as the framework held them, under the names that the reader should give."""
    network = re.match(r"(keras3|tf_keras)_(image|sequence)", name)[0]
    cell = re.compile(r"/(lstm|gru)_cell(_\d+)?")
    arrays = {cell.sub("", key[2:]): one for key, one in golden_arrays(f"{network}.npz").items() if key[:2] == "w/"}
    if "tf_keras" in name and "weights_only" not in name:  # Keras 2 leaves a wrapped layer's name out
        arrays = {key.replace("each/", "each/dense/"): array for key, array in arrays.items()}
    if name == "tf_keras_image.keras":  # numbered there: Keras 3's word is used, as the two frameworks write alike
        arrays["depthwise/kernel"] = arrays.pop("depthwise/depthwise_kernel")
    if name == "keras3_image.weights.h5":  # nothing in the file says whether this batch-norm has a scale or a center
        arrays["block/norm/gamma_or_beta"] = arrays.pop("block/norm/beta")
    return arrays


@pytest.mark.parametrize("name", FILES)
def test_every_weight_has_the_framework_s_value_under_its_layer_s_name(name):
    """All forms of both networks: nested, bidirectional, time-distributed, attention, both GRUs, separable."""
    expected = in_memory(name)

    checkpoint = opened(GOLDEN / name)

    weights = [key for key, info in checkpoint.items() if info.role == "weight"]
    assert set(weights) == set(expected)
    for key in weights:
        np.testing.assert_array_equal(checkpoint.read(key), expected[key], strict=True, err_msg=key)


@pytest.mark.parametrize("name", DESCRIBED)
def test_weights_come_in_the_order_of_the_network(name):
    """As the framework's own list of weights, for archives too, whose HDF5 sorts by other names."""
    checkpoint = opened(GOLDEN / name)

    layers = list(dict.fromkeys(info.layer for info in checkpoint.values() if info.role == "weight"))

    image = [
        "stem",
        "stem_norm",
        "depthwise",
        "block/conv",
        "block/norm",
        "separable",
        "up",
        "slope",
        "hidden",
        "logits",
    ]
    sequence = ["embed", "both_ways/forward_lstm", "both_ways/backward_lstm", "memory", "gru", "old_gru", "attention",
                "norm", "causal", "each/dense"]  # fmt: skip
    assert layers == (image if "image" in name else sequence)


@pytest.mark.parametrize("name", [name for name in DESCRIBED if "image" in name])
def test_the_image_network_s_facts_travel_along(name):
    """Eps, momentum, padding, strides, multiplier, missing scale, and the order of the flattened map."""
    checkpoint = opened(GOLDEN / name)

    assert facts_of(checkpoint, "stem_norm") | {"axis": -1} == {
        "eps": 1e-3, "momentum": 0.9, "axis": -1, "center": True, "scale": True,
    }  # fmt: skip
    assert facts_of(checkpoint, "block/norm")["eps"] == 2e-3
    assert facts_of(checkpoint, "block/norm")["scale"] is False
    stem = facts_of(checkpoint, "stem")
    assert (stem["padding"], stem["strides"], stem["use_bias"]) == ("same", [2, 2], False)
    assert facts_of(checkpoint, "depthwise")["depth_multiplier"] == 2
    assert facts_of(checkpoint, "depthwise")["activation"] == "relu"
    hidden = facts_of(checkpoint, "hidden")
    assert (hidden["flatten_order"], hidden["flatten_channels"]) == ("channels_last", 3)
    assert "flatten_order" not in facts_of(checkpoint, "logits")


@pytest.mark.parametrize("name", [name for name in DESCRIBED if "sequence" in name])
def test_the_sequence_network_s_facts_travel_along(name):
    """Gate order, the GRU's two forms, heads, merge, causal padding."""
    checkpoint = opened(GOLDEN / name)

    assert facts_of(checkpoint, "gru")["reset_after"] is True
    assert facts_of(checkpoint, "old_gru")["reset_after"] is False
    assert facts_of(checkpoint, "both_ways")["merge"] == "concat"
    assert facts_of(checkpoint, "both_ways/backward_lstm")["gate_order"] == "ifco"
    assert facts_of(checkpoint, "attention") | {"use_bias": True} == {
        "num_heads": 2, "head_dim": 3, "value_dim": 3, "use_bias": True,
    }  # fmt: skip
    causal = facts_of(checkpoint, "causal")
    assert (causal["padding"], causal["dilation"]) == ("causal", [2])
    types = {info.layer: info.layer_type for info in checkpoint.values()}
    assert types["each/dense"] == "Dense"
    assert types["attention"] == "MultiHeadAttention"
    assert checkpoint["attention/query/kernel"].leaf == "query/kernel"


@pytest.mark.parametrize("name", [name for name in FILES if "weights" in name])
def test_weights_without_a_description_say_what_they_leave_open(name):
    """Types only where the weights leave no doubt; the GRU's form is in its bias."""
    checkpoint = opened(GOLDEN / name)

    assert "without the model's configuration" in checkpoint.notes[0]
    if "sequence" in name:
        types = {info.layer: info.layer_type for info in checkpoint.values()}
        assert types["memory"] == "LSTM"
        assert types["attention"] == "MultiHeadAttention"
        assert facts_of(checkpoint, "gru")["reset_after"] is True
        assert facts_of(checkpoint, "old_gru")["reset_after"] is False


def write_h5(path, groups, **attributes):
    """A file of save_weights: layer → {weight name → array}."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in groups]
        for key, value in attributes.items():
            file.attrs[key] = value
        for name, arrays in groups.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                group[key] = array
    return path


def test_attributes_that_were_split_are_joined(tmp_path):
    """Keras splits long lists into layer_names0, layer_names1 …"""
    path = write_h5(tmp_path / "w.h5", {"a": {"a/kernel:0": np.ones((2, 3))}, "b": {"b/kernel:0": np.zeros((3, 1))}})
    with h5py.File(path, "r+") as file:
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"b"], [b"a"]

    assert list(KerasH5().open(path)) == ["b/kernel", "a/kernel"]


def test_a_lambda_is_named_and_not_run(tmp_path):
    """Its marshalled code is neither decoded nor executed."""
    layers = '{"class_name": "Lambda", "config": {"name": "evil", "function": ["4wEAAAA=", null, null]}}'
    described = f'{{"class_name": "Sequential", "config": {{"name": "net", "layers": [{layers}]}}}}'
    path = write_h5(tmp_path / "w.h5", {"d": {"d/kernel:0": np.ones((2, 3))}}, model_config=described)

    checkpoint = KerasH5().open(path)

    assert any("evil" in note and "was not run" in note for note in checkpoint.notes)


def test_a_link_to_another_file_is_refused(tmp_path):
    """An external link could read any HDF5 file of the machine."""
    path = write_h5(tmp_path / "w.h5", {"a": {"a/kernel:0": np.ones(2)}})
    with h5py.File(path, "r+") as file:
        del file["a/a"]
        file["a/a"] = h5py.ExternalLink("/etc/secret.h5", "/")

    with pytest.raises(CheckpointError, match="refused to follow the link"):
        KerasH5().open(path)


def test_values_in_other_files_are_refused(tmp_path):
    """External storage names any file of the machine."""
    (tmp_path / "raw").write_bytes(bytes(8))
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"kernel"]
        group.create_dataset("kernel", (2,), "f4", external=[(str(tmp_path / "raw"), 0, 8)])

    with pytest.raises(CheckpointError, match="other files"):
        KerasH5().open(path)


def test_an_array_that_claims_more_than_is_stored_is_refused(tmp_path):
    """A terabyte of fill values takes no byte in the file."""
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"kernel"]
        group.create_dataset("kernel", (1 << 38,), "f4", chunks=(1024,), compression="gzip")

    with pytest.raises(CheckpointError, match="claims"):
        KerasH5().open(path)


def test_compressed_weights_in_an_archive_are_refused_with_the_way_out(tmp_path):
    """A ZIP bomb would unfold while it is read."""
    old = zipfile.ZipFile(GOLDEN / "keras3_image.keras")
    with old, zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))

    with pytest.raises(CheckpointError, match="zip -0"):
        KerasArchive().open(tmp_path / "m.keras")


@needs_shared
@pytest.mark.parametrize("name", ["mnist10.keras", "mnist10.weights.h5", "mnist10_legacy.h5"])
def test_the_shared_networks_read_equal(name):
    """Real names and exact values in all three forms, the optimiser's state set apart."""
    checkpoint = opened(MNIST / "keras3" / name)

    with np.load(MNIST / "arrays" / "mnist10_slash_names.npz") as expected:
        weights = [key for key, info in checkpoint.items() if info.role == "weight"]
        assert weights == expected.files
        for key in weights:
            np.testing.assert_array_equal(checkpoint.read(key), expected[key], strict=True, err_msg=key)
    assert {checkpoint[key].layer_type for key in weights} == {"Dense"}
    assert {info.role for info in checkpoint.values()} == {"weight", "optimizer_slot", "counter"}


@needs_shared
def test_old_files_with_numbered_weight_names_read_under_the_layer_s_name():
    """CREPE's weights are called conv1_3/kernel:0 in the group conv1."""
    checkpoint = opened(CHECKPOINTS / "public" / "crepe_keras" / "model-tiny.h5")

    assert list(checkpoint)[:3] == ["conv1/kernel", "conv1/bias", "conv1-BN/gamma"]
    assert checkpoint["conv1-BN/gamma"].layer_type == "BatchNormalization"
    assert checkpoint["classifier/kernel"].shape == (256, 360)


@pytest.mark.parametrize(
    ("version", "names"),
    [("1.2.2", ["dense_1/kernel:0"]), (None, ["dense_1_W:0", "dense_1_b:0"]), (None, ["lstm_1_W_i:0", "lstm_1_U_i:0"])],
)
def test_files_of_keras_1_are_refused_by_name(tmp_path, version, names):
    """Their kernels are ordered as the backend liked, which the file does not tell."""
    attributes = {"keras_version": version} if version else {}
    path = write_h5(tmp_path / "w.h5", {"dense_1": {name: np.ones((2, 2)) for name in names}}, **attributes)

    with pytest.raises(CheckpointError, match=rf"Keras {version or '1'} wrote it[\s\S]*Load it with Keras 2"):
        KerasH5().open(path)


def test_names_that_only_look_old_are_read_when_the_version_is_newer(tmp_path):
    """A layer of the user's own may call its weight W."""
    path = write_h5(tmp_path / "w.h5", {"own": {"own/my_W:0": np.ones((2, 2))}}, keras_version="2.4.0")

    assert list(KerasH5().open(path)) == ["own/my_W"]


def test_a_group_called_layer_0_makes_no_file_of_keras_1(tmp_path):
    """Keras 1 numbers its groups so, and counts them in `nb_layers`; so do others with that name alone."""
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file["layer_0/kernel"] = np.ones((2, 2))

    assert list(KerasH5().open(path)) == ["layer_0/kernel"]

    with h5py.File(path, "a") as file:
        file.attrs["nb_layers"] = 1
    with pytest.raises(CheckpointError, match="Keras 1 wrote it"):
        KerasH5().open(path)
