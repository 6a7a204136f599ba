"""Arrays of Core ML: packed codes, and where an array of a weight file lies."""

import struct

import numpy as np
import pytest

from regraft.containers.protobuf import ProtobufFile
from regraft.errors import CheckpointError
from regraft.formats.coreml_weights import Weights, shifted, unpacked
from written import field


def weights(folder, message=b""):
    (folder / "m.mlmodel").write_bytes(message)
    return Weights(ProtobufFile(folder / "m.mlmodel"), folder=folder)


def written_blob(folder, *, kind=2, sentinel=0xDEADBEEF, size=8):
    head = struct.pack("<IIQQ", sentinel, kind, size, 128)
    (folder / "w.bin").write_bytes(bytes(64) + head + bytes(64 - len(head)) + np.array([1.5, -2], "<f4").tobytes())


def test_an_array_of_a_weight_file_lies_where_its_description_says(tmp_path):
    written_blob(tmp_path)

    stored = weights(tmp_path).in_weight_file("@model_path/w.bin", 64, (2,), "w")

    assert stored.read().tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("changes", "name", "match"),
    [
        ({"sentinel": 1}, "@model_path/w.bin", "no array of a known type is described at 64"),
        ({"kind": 8}, "@model_path/w.bin", "no array of a known type"),
        ({"size": 4}, "@model_path/w.bin", "has 4 bytes, expected 8"),
        ({}, "@model_path/../w.bin", "does not lie beside the model"),
        ({}, "/etc/passwd", "does not lie beside the model"),
        ({}, "@model_path/v.bin", r"v\.bin is missing"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, changes, name, match):
    folder = tmp_path / "inside"
    folder.mkdir()
    written_blob(folder, **changes)
    written_blob(tmp_path)

    with pytest.raises(CheckpointError, match=match):
        weights(folder).in_weight_file(name, 64, (2,), "w")


@pytest.mark.parametrize(("order", "expected"), [("big", [1, 2, 3]), ("little", [3, 1, 2])])
def test_codes_are_packed_from_either_end(order, expected):
    """1, 2, 3 and 4 bits of filling from the highest bit on; 3, 1, 2 from the lowest."""
    byte = 0b01_10_11_00 if order == "big" else 0b00_10_01_11

    assert unpacked(bytes([byte]), 2, 3, order=order).tolist() == expected


def test_codes_are_shifted_and_scaled_along_their_axis():
    codes = np.array([[0, 2], [4, 6]], np.int8)

    assert shifted(codes, np.array([1, 10], np.float32), np.array([0, 2], np.int8), 1).tolist() == [[0, 0], [4, 40]]
    assert shifted(codes, np.float32(2), np.int8(1), 0).tolist() == [[-2, 2], [6, 10]]


def quantised(bits, content, scales):
    """WeightParams with codes."""
    return field(30, content) + field(40, field(1, bits) + scales)


def test_codes_of_a_table_are_looked_up(tmp_path):
    table = field(102, field(1, np.array([0, 10, 20, 30], "<f4").tobytes()))
    known = weights(tmp_path, field(1, quantised(2, bytes([0b01_10_11_00]), table)))

    known.add_params(known.file.message(known.file.whole)[1][0], (3,), "fc", "bias", "InnerProduct")

    assert known.read("fc/bias").tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (quantised(2, bytes(2), b""), "2 bytes of 2-bit codes"),
        (quantised(0, b"", b""), "0-bit codes"),
        (quantised(2, bytes(1), b""), "codes without their scales or table"),
        (field(1, bytes(8)), "has 8 bytes, expected 12"),
        (field(31, bytes(3)), "has no values"),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path, message, match):
    known = weights(tmp_path, field(1, message))

    with pytest.raises(CheckpointError, match=match):
        known.add_params(known.file.message(known.file.whole)[1][0], (3,), "fc", "bias", "InnerProduct")
