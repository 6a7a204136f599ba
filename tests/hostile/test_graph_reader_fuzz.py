"""Readers of graphs and trees under attack: spliced real files, paths that lead out, bombs, code, absurd claims.

CheckpointError or arrays, without a hang (pytest's timeout), nothing run, nothing read that lies outside.
"""

import json
import shutil
import zipfile
import zlib

import h5py
import msgpack
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden_files import GOLDEN
from regraft.errors import CheckpointError
from regraft.formats.format import HEAD_BYTES
from regraft.formats.keras import KerasArchive, KerasH5
from regraft.formats.onnx import Onnx
from regraft.formats.orbax import Orbax
from regraft.formats.readers import FORMATS
from written import write_gguf, write_zarr

NAMES = [
    "keras3_image.h5", "keras3_sequence.weights.h5", "tf_keras_image.keras", "torch_folded.onnx", "caffe.caffemodel",
    "flax_state.msgpack", "mxnet-0012.params", "gguf",
]  # fmt: skip
PLACE = st.floats(0, 1, exclude_max=True)
NUMBERS = st.sampled_from([0, 1, 0xFF, 1 << 15, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 1])
DAMAGES = st.lists(st.tuples(st.sampled_from(["bytes", "number", "cut", "copy"]), PLACE, PLACE, NUMBERS), max_size=5)


def damaged(content, damages):
    """The file with parts overwritten, cut out, or copied over other parts."""
    for kind, place, other, number in damages:
        at, start = int(place * len(content)), int(other * len(content))
        if kind == "cut":
            content = content[:at] + content[at + start % 64 :]
        else:
            piece = {
                "bytes": bytes([start % 256]) * (1 + start % 3), "number": number.to_bytes(8, "little"),
                "copy": content[start : start + 48],
            }[kind]  # fmt: skip
            content = content[:at] + piece + content[at + len(piece) :]
    return content


def read_all(path):
    """Every array by every reader that recognises the path and does not refuse it."""
    head = path.read_bytes()[:HEAD_BYTES] if path.is_file() else b""
    found = {}
    for reader in FORMATS:
        if reader.recognises(path, head):
            try:
                checkpoint = reader.open(path)
                found |= {name: checkpoint.read(name) for name in checkpoint}
            except CheckpointError:
                continue
    return found


@pytest.mark.parametrize("name", NAMES)
@given(damages=DAMAGES)
def test_spliced_files_are_refused_or_read_without_harm(name, tmp_path, damages):
    """Real files of each format, in up to five places."""
    if name == "gguf":
        write_gguf(tmp_path / "whole", {"a": np.ones((2, 32), "f")}, facts=lambda one: one.add_array("t", ["a", "b"]))
        content = (tmp_path / "whole").read_bytes()
    else:
        content = (GOLDEN / name).read_bytes()
    path = tmp_path / f"damaged{(GOLDEN / name).suffix}"
    path.write_bytes(damaged(content, damages))

    read_all(path)


@pytest.mark.parametrize("name", ["orbax_folders", "orbax_store", "orbax_folders_zarr3"])
@given(damages=DAMAGES, which=PLACE)
def test_spliced_folders_are_refused_or_read_without_harm(name, tmp_path, damages, which):
    """One of the files is damaged each time."""
    shutil.rmtree(tmp_path / "a", ignore_errors=True)
    shutil.copytree(GOLDEN / name, tmp_path / "a")
    files = sorted(file for file in (tmp_path / "a").rglob("*") if file.is_file())
    file = files[int(which * len(files))]
    file.write_bytes(damaged(file.read_bytes(), damages))

    read_all(tmp_path / "a")


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "a/../../secret", "link", ""])
def test_onnx_reads_no_file_outside_of_its_folder(tmp_path, place):
    """External data may lie beside the model and nowhere else."""
    (tmp_path / "secret").write_bytes(bytes(64))
    home = tmp_path / "model"
    home.mkdir()
    (home / "link").symlink_to(tmp_path / "secret")
    tensor = onnx.TensorProto(name="w", dims=[2, 2], data_type=1, data_location=1)
    tensor.external_data.add(key="location", value=place)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], [tensor]), ir_version=10)
    (home / "m.onnx").write_bytes(model.SerializeToString())

    with pytest.raises(CheckpointError, match=r"refused|outside|names no file|no file"):
        Onnx().open(home / "m.onnx").read("w")


@pytest.mark.parametrize("whole", [True, False])
def test_code_inside_keras_files_is_never_run(tmp_path, whole):
    """A Lambda's marshalled function, a class of somebody's module, a file with a chosen name."""
    proof = tmp_path / "proof"
    code = f"(lambda: open({str(proof)!r}, 'w'))()"
    layers = [
        {"class_name": "Lambda", "module": "os", "config": {"name": "evil", "function": {"class_name": "__lambda__",
         "config": {"code": code}}}},
        {"class_name": "system", "module": "os", "registered_name": "system", "config": {"name": f"touch {proof}"}},
        {"class_name": "Dense", "config": {"name": "layer", "units": 3}},
    ]  # fmt: skip
    config = json.dumps({"class_name": "Sequential", "config": {"name": "net", "layers": layers}})
    with h5py.File(tmp_path / "w.h5", "w") as file:
        if whole:
            file.attrs["model_config"], file.attrs["layer_names"] = config, [b"layer"]
            file.create_group("layer").attrs["weight_names"] = [b"layer/kernel:0"]
            file["layer/layer/kernel:0"] = np.ones((2, 3), "f")
        else:
            file["layers/dense/vars/0"] = np.ones((2, 3), "f")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.write(tmp_path / "w.h5", "model.weights.h5")

    checkpoint = (KerasH5 if whole else KerasArchive)().open(tmp_path / ("w.h5" if whole else "m.keras"))

    assert any("evil" in note for note in checkpoint.notes)
    assert not proof.exists()


def test_bombs_unpack_to_no_more_than_their_array(tmp_path):
    """A chunk of Zarr, a config of a `.keras` archive, an HDF5 chunk."""
    bomb = zlib.compress(bytes(64 << 20))
    home = write_zarr(tmp_path / "orbax", "a.kernel", np.ones((2, 3), "f"), compressor="zlib")
    (home / "0.0").write_bytes(bomb)
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (64 << 20))
        archive.writestr("model.weights.h5", b"", zipfile.ZIP_STORED)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file.create_group("a").attrs["weight_names"] = [b"kernel"]
        array = file.create_dataset("a/kernel", (4,), "f4", chunks=(4,), compression="gzip")
        array.id.write_direct_chunk((0,), bomb)

    with pytest.raises(CheckpointError, match="longer than 24 bytes"):
        Orbax().open(tmp_path / "orbax").read("a/kernel")
    with pytest.raises(CheckpointError, match="unpacks to 67108864 bytes: a bomb"):
        KerasArchive().open(tmp_path / "m.keras")
    with pytest.raises(CheckpointError, match="does not unpack to 20 bytes"):
        KerasH5().open(tmp_path / "w.h5").read("a/kernel")


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_trees_end_with_an_error(tmp_path, depth):
    """Neither Python's stack nor the machine's memory ends."""
    (tmp_path / "a.msgpack").write_bytes(b"\x81\xa1a" * depth + msgpack.packb({"b": 1}))
    (tmp_path / "orbax").mkdir()
    (tmp_path / "orbax" / "_METADATA").write_text('{"tree_metadata":' * depth + "1" + "}" * depth)

    assert not read_all(tmp_path / "a.msgpack")
    assert not read_all(tmp_path / "orbax")
