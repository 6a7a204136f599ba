"""What to say of a path that no reader knows: files that people take for checkpoints, and what to do with each."""

from pathlib import Path

from regraft.errors import CheckpointError
from regraft.formats.format import HEAD_BYTES
from regraft.foundation.wording import near_names

_BEGINNINGS = (  # in small letters, behind spaces
    ((b"version https://git-lfs",),
     "is only a Git LFS pointer, not the checkpoint. Download the file itself: git lfs pull."),
    ((b"<!doctype html", b"<html"),
     "is a web page, not a checkpoint. The download gave an error or a login page: download it again."),
    ((b"\x1f\x8b", b"bzh", b"\xfd7zxz"), "is a compressed file. Unpack it first."),
)  # fmt: skip
_OTHERS = (  # (what stands among the first 64 bytes, what it is and what to do)
    (
        b"<net ",
        "is an OpenVINO model, which is not read. Open the ONNX, TensorFlow or torch file that it was made from.",
    ),
    (b"ORTM", "is ONNX Runtime's own format. Open the .onnx that it was made from."),
    (b"lmgg", "is GGML, which came before GGUF. Convert it to GGUF with llama.cpp's scripts."),
    (b"tjgg", "is GGJT, which came before GGUF. Convert it to GGUF with llama.cpp's scripts."),
    (b"ftrt", "is a TensorRT engine, made for one device. Open the ONNX file that it was built from."),
    (b"MATLAB 5.0", "is a MATLAB 5 file. Save it as version 7.3 (save -v7.3), which is HDF5, or as .npz."),
    (b"\x89PNG", "is an image."),
    (b"\xff\xd8\xff", "is an image."),
    (b"%PDF", "is a PDF."),
)
_BY_SUFFIX = {
    ".weights": "may be Darknet's, which keeps numbers without names or shapes. Put its .cfg beside it.",
    ".pb": "may be a TensorFlow graph without weights, or the program of a SavedModel. Open the checkpoint, or the "
    "folder of the SavedModel.",
    ".bin": "has no header that says its format. If an OpenVINO .xml file lies beside it, it holds the weights of that "
    "model, which are not read: open the ONNX, TensorFlow or torch file that the model was made from.",
    ".engine": "may be a TensorRT engine, made for one device. Open the ONNX file that it was built from.",
    ".joblib": "may be a joblib file of scikit-learn's, which is code. Save its arrays with numpy.savez.",
    ".json": "is JSON that describes no weights. Open the file that holds the weights.",
}  # fmt: skip


def unknown(path: Path, known: str) -> CheckpointError:
    """Why a path that nobody recognises cannot be opened, and what to do."""
    if not path.exists():
        folder = path.parent
        if not folder.is_dir():
            return CheckpointError(f"The file {path} does not exist: there is no folder {folder}.")
        names = sorted(entry.name for entry in folder.iterdir())
        nearest = near_names(path.name, names) if names else "The folder is empty."
        return CheckpointError(f"The file {path} does not exist. Looked in {folder.resolve()}. {nearest}")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return CheckpointError(f"{path} {_what_it_is(path, head)}\nKnown formats: {known}.")


def _what_it_is(path: Path, head: bytes) -> str:
    """A sentence on files that people take for checkpoints."""
    if not head:
        return "is empty. The download was probably interrupted: download it again."
    for beginnings, sentence in _BEGINNINGS:
        if head.lstrip().lower().startswith(beginnings):
            return sentence
    if head[257:262] == b"ustar":
        return "is a tar archive. Unpack it first."
    for part, sentence in _OTHERS:
        if part in head[:64]:
            return sentence
    if head.startswith(b"PK\x03\x04"):
        return f"is a ZIP archive of an unknown kind{_first_member(head)}. Unpack it, and open the checkpoint inside."
    return _BY_SUFFIX.get(path.suffix, f"has no known format; it begins with {head[:16]!r}.")


def _first_member(head: bytes) -> str:
    """What the archive begins with."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")
    return f"; it begins with {name[:80]!r}" if name.isprintable() and name else ""
