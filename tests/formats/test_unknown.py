"""What is said of files that people take for checkpoints."""

import zipfile

import pytest

from regraft.errors import CheckpointError
from regraft.reading import open_checkpoint


@pytest.mark.parametrize(("name", "content", "told"), [
    ("m.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO model, which is not read. Open the"),
    ("m.ort", b"\x10\0\0\0ORTM" + bytes(20), "ONNX Runtime's own format. Open the .onnx"),
    ("m.bin", b"lmgg" + bytes(20), "came before GGUF. Convert it"),
    ("yolo.weights", bytes(20), "Darknet's, .* Put its .cfg beside it"),
    ("frozen.pb", b"\n;\n\x01x", "TensorFlow graph without weights"),
    ("config.json", b"{}", "JSON that describes no weights"),
    ("m.mat", b"MATLAB 5.0 MAT-file", "Save it as version 7.3"),
    ("m.unheard", b"\x01\x02", r"has no known format; it begins with b'\\x01\\x02'"),
])  # fmt: skip
def test_other_kinds_of_files_are_named_with_what_to_do(tmp_path, name, content, told):
    """A person is told the way, not only that there is none."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(tmp_path / name)


def test_an_archive_of_something_is_told_by_what_it_holds(tmp_path):
    """A checkpoint that was zipped for sending."""
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("weights/m.h5", b"x")

    with pytest.raises(CheckpointError, match=r"it begins with 'weights/m.h5'\. Unpack it"):
        open_checkpoint(tmp_path / "m.zip")


def test_joblib_s_files_are_told_by_name(tmp_path):
    """Their arrays lie between the opcodes of the pickle."""
    (tmp_path / "m.joblib").write_bytes(b"\x80\x04\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93.")

    with pytest.raises(CheckpointError, match=r"is a file of joblib's, .*\n.*numpy\.savez"):
        open_checkpoint(tmp_path / "m.joblib")
