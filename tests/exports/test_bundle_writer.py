"""TensorFlow checkpoints, byte for byte as TensorFlow's Saver writes them."""

import ml_dtypes
import numpy as np
import pytest

from golden_files import GOLDEN
from regraft.errors import SaveError
from regraft.exports.bundle_writer import write_bundle
from regraft.formats.tensor_bundle import Bundle


def test_a_checkpoint_of_tensorflow_is_written_byte_for_byte(tmp_path):
    """Its arrays under their names."""
    golden = GOLDEN / "graph_training.ckpt"
    bundle = Bundle(golden)
    write_bundle(tmp_path / "c", {name: bundle.read(name) for name in bundle.entries})
    for suffix in (".index", ".data-00000-of-00001"):
        assert (tmp_path / f"c{suffix}").read_bytes() == golden.with_name(golden.name + suffix).read_bytes()
    assert (tmp_path / "checkpoint").read_text() == 'model_checkpoint_path: "c"\nall_model_checkpoint_paths: "c"\n'


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint16", "int64", "bool", "complex64"])
def test_each_dtype_is_read_as_it_was_written(tmp_path, dtype):
    """Scalars and transposed arrays, too."""
    arrays = {"a/b": np.arange(6).reshape(2, 3).astype(dtype).T, "c": np.array(1, dtype)}
    write_bundle(tmp_path / "c", arrays)
    bundle = Bundle(tmp_path / "c")
    for name, array in arrays.items():
        assert bundle.entries[name].dtype == dtype
        assert np.array_equal(bundle.read(name), array)


def test_bfloat16_has_its_own_type(tmp_path):
    """As ml_dtypes, and TensorFlow, have it."""
    array = np.arange(3).astype(ml_dtypes.bfloat16)
    write_bundle(tmp_path / "c", {"a": array})
    assert Bundle(tmp_path / "c").entries["a"].dtype == "bfloat16"
    assert Bundle(tmp_path / "c").read("a").tolist() == [0, 1, 2]


@pytest.mark.parametrize(("arrays", "message"), [({}, "no array"), ({"a": np.array(["x"])}, "no dtype for a")])
def test_what_is_no_checkpoint_is_refused(tmp_path, arrays, message):
    """Before a file is written."""
    with pytest.raises(SaveError, match=message):
        write_bundle(tmp_path / "c", arrays)
    assert not list(tmp_path.iterdir())
