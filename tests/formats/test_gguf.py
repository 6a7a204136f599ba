"""GGUF files that the gguf library wrote."""

import struct
import sys

import gguf
import numpy as np
import pytest

from regraft.arrays import Requirement
from regraft.errors import CheckpointError, MissingLibraryError
from regraft.formats.gguf import GGUF
from written import write_gguf

Q4_K, Q8_0, IQ2_S = (getattr(gguf.GGMLQuantizationType, name) for name in ("Q4_K", "Q8_0", "IQ2_S"))
KERNEL = np.linspace(-3, 5, 2 * 3 * 64, dtype=np.float32).reshape(2, 3, 64)


def test_shapes_are_torch_s_and_values_those_of_the_library(tmp_path):
    """The file lists the axes the other way round."""
    path = write_gguf(tmp_path / "a.gguf", {"a": KERNEL, "b": KERNEL}, types={"b": Q8_0})
    reader = gguf.GGUFReader(path)

    checkpoint = GGUF().open(path)

    assert [info.shape for info in checkpoint.values()] == [(2, 3, 64), (2, 3, 64)]
    assert [info.note for info in checkpoint.values()] == [
        "", "dequantised from Q8_0, a scale for each 32 values or fewer",
    ]  # fmt: skip
    np.testing.assert_array_equal(checkpoint.read("a"), KERNEL, strict=True)
    expected = gguf.dequantize(reader.tensors[1].data, Q8_0).reshape(KERNEL.shape)
    np.testing.assert_array_equal(checkpoint.read("b"), expected, strict=True)
    assert checkpoint.notes == ("1 of 2 arrays are quantised: their values are near those of the original.",)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int16", "int32", "int64"])
def test_plain_numbers_are_read_as_they_are(tmp_path, dtype):
    """No rounding."""
    array = np.arange(-3, 3).reshape(2, 3).astype(dtype)

    checkpoint = GGUF().open(write_gguf(tmp_path / "a.gguf", {"a": array}))

    np.testing.assert_array_equal(checkpoint.read("a"), array, strict=True)


def test_facts_of_every_kind_are_stepped_over_and_eps_is_carried(tmp_path):
    """Vocabularies are long lists; the norm's eps is a requirement of each norm."""

    def facts(writer):
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_head_count(4)
        writer.add_custom_alignment(64)
        writer.add_array("tokens", ["a", "ß", ""] * 50)
        writer.add_array("scores", [0.5, 1.5])
        writer.add_array("nested", [[1, 2], [3, 4]])
        writer.add_bool("flag", True)

    names = ("blk.0.attn_norm.weight", "blk.0.attn_q.weight", "output_norm.weight")
    arrays = {name: KERNEL[0] + number for number, name in enumerate(names)}
    checkpoint = GGUF().open(write_gguf(tmp_path / "a.gguf", arrays, architecture="llama", facts=facts))

    for name, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.read(name), array, strict=True)
    eps = float(np.float32(1e-5))
    assert checkpoint.requirements == (
        Requirement("blk.0.attn_norm", "eps", eps), Requirement("output_norm", "eps", eps),
        Requirement("blk.0.attn_q", "row_order", "rotary"), Requirement("blk.0.attn_q", "num_heads", 4),
    )  # fmt: skip
    assert "rotary embedding" in checkpoint["blk.0.attn_q.weight"].note
    assert any("reordered the rows" in note for note in checkpoint.notes)


def test_a_split_checkpoint_is_opened_whole_from_any_part(tmp_path):
    """And a missing part fails first."""
    for number, name in ((1, "a"), (2, "b")):
        write_gguf(tmp_path / f"m-{number:05}-of-00002.gguf", {name: KERNEL + number})

    checkpoint = GGUF().open(tmp_path / "m-00002-of-00002.gguf")

    assert list(checkpoint) == ["a", "b"]
    assert len(checkpoint.files) == 2
    np.testing.assert_array_equal(checkpoint.read("b"), KERNEL + 2, strict=True)
    (tmp_path / "m-00001-of-00002.gguf").unlink()
    with pytest.raises(CheckpointError, match=r"1 of 2 parts are missing: m-00001-of-00002\.gguf"):
        GGUF().open(tmp_path / "m-00002-of-00002.gguf")


def test_rare_blocks_are_unpacked_by_the_library_or_name_it(tmp_path, monkeypatch):
    """Formats that rest on large tables."""
    blocks = np.random.default_rng(0).integers(0, 100, (2, gguf.GGML_QUANT_SIZES[IQ2_S][1]), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "test")
    writer.add_tensor("a", blocks, raw_dtype=IQ2_S)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    checkpoint = GGUF().open(tmp_path / "a.gguf")

    assert checkpoint["a"].shape == (2, 256)
    np.testing.assert_array_equal(checkpoint.read("a"), gguf.dequantize(blocks, IQ2_S))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingLibraryError, match=r'blocks of IQ2_S[\s\S]*pip install "regraft\[gguf\]"'):
        checkpoint.read("a")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "big-endian machines"),
        (struct.pack("<4sIQQ", b"GGUF", 9, 0, 0), "version 9"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 1 << 60, 0), "reach beyond its end"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 1 << 60), "reach beyond its end"),
        (struct.pack("<4sIQQQ", b"GGUF", 3, 1, 0, 1 << 60), "a name of 1152921504606846976 bytes"),
        (struct.pack("<4sIQQQcIQQIQ", b"GGUF", 3, 1, 0, 1, b"a", 2, 1 << 62, 1 << 62, 0, 0), "impossible shape"),
        (struct.pack("<4sIQQQcIQIQ", b"GGUF", 3, 1, 0, 1, b"a", 1, 33, 2, 0), "does not divide into blocks of 32"),
        (struct.pack("<4sIQQQcIQIQ", b"GGUF", 3, 1, 0, 1, b"a", 1, 32, 99, 0), "type 99"),
        (struct.pack("<4sIQQQcI", b"GGUF", 3, 1, 0, 1, b"a", 99), "99 dimensions"),
        (struct.pack("<4sIQQQcI", b"GGUF", 3, 0, 1, 1, b"a", 77), "a fact of the type 77"),
    ],
)  # fmt: skip
def test_headers_that_claim_what_is_not_there_are_refused(tmp_path, content, told):
    """By what they claim, before anything is allocated."""
    path = tmp_path / "a.gguf"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=told):
        GGUF().open(path)


@pytest.mark.parametrize(("architecture", "offsets"), [("gemma", 1), ("llama", 0)])
def test_norms_to_which_the_converter_adds_one_are_recorded(tmp_path, architecture, offsets):
    """llama.cpp stores Gemma's norms as 1 + w; those of Llama as they are."""
    arrays = {"output_norm.weight": KERNEL[0], "output.weight": KERNEL[0]}

    checkpoint = GGUF().open(write_gguf(tmp_path / "a.gguf", arrays, architecture=architecture))

    assert checkpoint.requirements.count(Requirement("output_norm", "norm_offset", 1)) == offsets
    assert not any(fact.layer == "output" for fact in checkpoint.requirements)
