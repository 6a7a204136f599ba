"""Every reader under attack: whatever the bytes are, CheckpointError or arrays; nothing is run, nothing hangs.

`FormatContract` already cuts each reader's sample at every byte and forges lengths in it. Here hypothesis looks for
what those miss: spliced, repeated and exchanged parts of real files, in front of all readers at once.
"""

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from flat import write_tflite
from javascript import write_tfjs
from regraft.errors import CheckpointError
from regraft.formats.format import HEAD_BYTES
from regraft.formats.readers import FORMATS
from tables import write_bundle, write_v1

ARRAYS = {"layer/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "layer/bias": np.ones(3, np.float32)}
STATE = {name.replace("/", "."): torch.from_numpy(array) for name, array in ARRAYS.items()}


def savedmodel(folder):
    (folder / "variables").mkdir()
    write_bundle(folder / "variables" / "variables", ARRAYS)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    return folder


def saved(folder, **how):
    torch.save({"state_dict": STATE, "epoch": 1}, folder / "m.pt", **how)
    return folder / "m.pt"


def compressed(folder):
    np.savez_compressed(folder / "m.npz", **ARRAYS)
    return folder / "m.npz"


def safetensors(folder):
    save_file(ARRAYS, folder / "m.safetensors")
    return folder / "m.safetensors"


def pickled(folder):
    (folder / "m.pkl").write_bytes(pickle.dumps([*ARRAYS.values()], 2))
    return folder / "m.pkl"


def object_array(folder):
    np.save(folder / "m.npy", np.array(ARRAYS, dtype=object), allow_pickle=True)
    return folder / "m.npy"


WRITERS = {
    "tensorflow-v2": lambda folder: write_bundle(folder / "m", ARRAYS),
    "tensorflow-v1": lambda folder: write_v1(folder / "m.ckpt", ARRAYS),
    "savedmodel": savedmodel,
    "tflite": lambda folder: write_tflite(folder / "m.tflite", ARRAYS),
    "tfjs": lambda folder: write_tfjs(folder, ARRAYS),
    "safetensors": safetensors,
    "torch": saved,
    "torch-legacy": lambda folder: saved(folder, _use_new_zipfile_serialization=False),
    "npz": compressed,
    "npy": object_array,
    "numpy-pickle": pickled,
}
READERS = {reader.name: reader for reader in FORMATS}
PLACE = st.floats(0, 1, allow_nan=False)


@st.composite
def damages(draw):
    """A function from bytes to damaged bytes: parts are overwritten, cut out, repeated and exchanged."""
    steps = draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("write"), PLACE, st.binary(min_size=1, max_size=9)),
                st.tuples(
                    st.just("number"), PLACE, st.sampled_from([1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63])
                ),
                st.tuples(st.just("cut"), PLACE, PLACE),
                st.tuples(st.just("copy"), PLACE, PLACE),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def damage(content: bytes) -> bytes:
        for kind, place, what in steps:
            at = int(place * len(content))
            if kind == "write":
                content = content[:at] + what + content[at + len(what) :]
            elif kind == "number":
                content = content[:at] + what.to_bytes(8, "little") + content[at + 8 :]
            elif kind == "cut":
                content = content[:at] + content[at + int(what * 64) :]
            else:
                start = int(what * len(content))
                content = content[:at] + content[start : start + 32] + content[at + 32 :]
        return content

    return damage


@pytest.mark.parametrize("name", WRITERS)
@given(damage=damages(), which=PLACE)
def test_damaged_files_are_refused_or_read_without_harm(name, tmp_path_factory, damage, which):
    """CheckpointError or arrays, no hang (pytest's timeout), and never more memory than the file's own measure."""
    folder = tmp_path_factory.mktemp("f")
    path = WRITERS[name](folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    target = files[int(which * (len(files) - 1) + 0.5)]
    target.write_bytes(damage(target.read_bytes()))
    size = sum(file.stat().st_size for file in files)
    tracemalloc.start()
    try:
        checkpoint = READERS[name].open(path)
        for array in checkpoint:
            checkpoint.read(array)
    except CheckpointError as error:
        assert str(folder) in str(error), "the message names the file"  # noqa: PT017 - both ways are right
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 * size + (2 << 20)


@given(content=st.binary(max_size=200), begin=st.sampled_from([
    b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x02", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
    b"\x18\x00\x00\x00TFL3", b'{"modelTopology"', b"\x10\x00\x00\x00\x00\x00\x00\x00{", b"(lp0\n", b"cnumpy",
]))  # fmt: skip
def test_noise_behind_a_known_beginning(tmp_path_factory, content, begin):
    """No reader raises anything but CheckpointError, from recognising to reading."""
    path = tmp_path_factory.mktemp("n") / "m"
    path.write_bytes(begin + content)
    for reader in FORMATS:
        if reader.recognises(path, path.read_bytes()[:HEAD_BYTES]) is True:
            try:
                checkpoint = reader.open(path)
                _ = [checkpoint.read(name) for name in checkpoint]
            except CheckpointError:
                continue


class Command:
    """An object whose pickle runs a command when it is loaded the usual way."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("writer", ["pkl", "npy", "npz", "pt", "old"])
def test_commands_in_pickles_are_refused_by_name_and_not_run(tmp_path, writer, protocol):
    """In every format that holds a pickle, in every protocol."""
    marker = tmp_path / "ran"
    content = {"w": np.ones(2), "x": Command(marker)}
    path = tmp_path / f"m.{writer}"
    if writer == "pkl":
        path.write_bytes(pickle.dumps(content, max(protocol, 2)))
    elif writer in ("npy", "npz"):
        with path.open("wb") as file:
            (np.save if writer == "npy" else np.savez)(file, np.array(content, dtype=object), allow_pickle=True)
    else:
        torch.save(content, path, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=writer == "pt")
    (reader,) = [one for one in FORMATS if one.recognises(path, path.read_bytes()[:HEAD_BYTES])]

    with pytest.raises(
        CheckpointError, match=r"refused, because the pickle asks to run code of its own: (posix|nt)\.system"
    ):
        reader.open(path)
    assert not marker.exists()


def test_a_chain_of_calls_as_in_known_attacks_is_refused(tmp_path):
    """getattr, __import__, eval, exec, compile, runpy and torch's own loaders, one by one."""
    for name in (
        "builtins getattr", "builtins __import__", "builtins eval", "builtins exec", "runpy _run_code", "torch load",
        "torch.hub load", "numpy.testing._private.utils runstring", "pip main", "subprocess Popen", "pydoc pipepager",
    ):  # fmt: skip
        module, function = name.split()
        path = tmp_path / "m.pkl"
        path.write_bytes(f"\x80\x02c{module}\n{function}\n(S'x'\ntR.".encode("latin1"))
        with pytest.raises(CheckpointError, match=f"code of its own: {module}.{function}"):
            READERS["numpy-pickle"].open(path)
