"""HDF5 files as trees of groups and arrays."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdf5_files import VERSIONS, reopened, write
from regraft.containers.hdf5.tree import opened
from regraft.containers.spans import Located, Span
from regraft.errors import CheckpointError


def span_of(path):
    return Span(path, 0, path.stat().st_size)


def test_arrays_are_located_and_read_without_hdf5(tmp_path):
    """What lies in one piece is read from its offset; also inside another file."""
    array = np.arange(6, dtype="f").reshape(2, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/a"] = array
    (tmp_path / "outer").write_bytes(b"before" + (tmp_path / "a.h5").read_bytes() + b"after")
    size = (tmp_path / "a.h5").stat().st_size

    for span in (span_of(tmp_path / "a.h5"), Span(tmp_path / "outer", 6, size)):
        with opened(span) as root:
            found = root.child("g").array("a")
        assert isinstance(found, Located)
        np.testing.assert_array_equal(found.read(), array, strict=True)


@pytest.mark.parametrize("options", [{"chunks": (4, 4), "compression": "gzip", "shuffle": True}, {"chunks": (3, 5)}])
def test_arrays_in_pieces_are_read(tmp_path, options):
    """Some tools repack a file with compression."""
    array = np.arange(160, dtype="f").reshape(10, 16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=array, **options)

    with opened(span_of(tmp_path / "a.h5")) as root:
        found = root.array("a")

    np.testing.assert_array_equal(found.read(), array, strict=True)


def test_big_endian_arrays_come_in_the_machine_s_order(tmp_path):
    """As a PowerPC wrote them."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.array([1, 2.5], ">f8")

    with opened(span_of(tmp_path / "a.h5")) as root:
        found = root.array("a")

    np.testing.assert_array_equal(found.read(), np.array([1, 2.5]), strict=True)


def descend(group):
    """For ever, where a group contains itself."""
    while group:
        group = group.child("self")


def test_texts_are_no_arrays_and_absent_things_are_none(tmp_path):
    """And a group that contains itself ends."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["words"] = "text"
        file["g/self"] = file.create_group("g") if "g" not in file else file["g"]

    with opened(span_of(tmp_path / "a.h5")) as root:
        assert root.child("absent") is None
        assert root.array("absent/deeper") is None
        assert root.text("absent") is None
        with pytest.raises(CheckpointError, match="no numbers"):
            root.array("words")
        with pytest.raises(CheckpointError, match="contain themselves"):
            descend(root.child("g"))


def test_bfloat16_is_read_as_keras_marks_it(tmp_path):
    """Keras writes the two bytes as an opaque type and the name into an attribute."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.array([0x3FC0, 0xC000], np.uint16).view("V2")
        file["a"].attrs["dtype"] = "bfloat16"

    with opened(span_of(tmp_path / "a.h5")) as root:
        found = root.array("a")

    assert found.dtype == "bfloat16"
    np.testing.assert_array_equal(found.read(), np.array([1.5, -2], "f"), strict=True)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name != "."
)
ARRAYS = st.builds(
    lambda dtype, shape: (np.arange(1, 1 + int(np.prod(shape))).reshape(shape)).astype(dtype),
    st.sampled_from(["f2", "f4", ">f4", "f8", "i1", "u2", ">i8", "?"]),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
)
TREES = st.recursive(ARRAYS, lambda inner: st.dictionaries(NAMES, inner, max_size=12), max_leaves=30)


@settings(max_examples=40)
@given(
    tree=st.dictionaries(NAMES, TREES, max_size=12),
    attributes=st.dictionaries(NAMES, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)),
    version=st.sampled_from(VERSIONS),
    tracked=st.booleans(),
)
def test_any_tree_is_read_as_h5py_wrote_it(tmp_path, tree, attributes, version, tracked):
    """Names in any script, empty groups, arrays without elements, old and new structures."""

    def fill(group, content=tree):
        group.attrs.update(attributes)
        for name, value in content.items():
            if isinstance(value, dict):
                fill(group.create_group(name, track_order=tracked), value)
            else:
                group.create_dataset(name, data=value)

    def compare(group, content):
        assert group.names() == sorted(content)
        assert {name: group.text(name) for name in attributes} == attributes
        for name, value in content.items():
            if isinstance(value, dict):
                compare(group.child(name), value)
            else:
                native = value.astype(value.dtype.newbyteorder("="))
                np.testing.assert_array_equal(group.array(name).read(), native, strict=True)

    with reopened(write(tmp_path, fill, version=version, track_order=tracked)) as root:
        compare(root, tree)


def test_groups_that_hold_one_another_twice_end(tmp_path):
    """Thirty levels of two links each are 2³⁰ paths in a small file."""

    def fill(file):
        group = file
        for _ in range(30):
            inner = file.create_group(None)
            group["a"] = group["b"] = inner
            group = inner

    def walk(group):
        for name in group.names():
            walk(group.child(name))

    with reopened(write(tmp_path, fill)) as root, pytest.raises(CheckpointError, match="contain themselves"):
        walk(root)


def test_attributes_of_any_type_are_known_by_name(tmp_path):
    """Keras 1 is told from others by a number."""
    with reopened(write(tmp_path, lambda file: file.attrs.__setitem__("nb_layers", 3))) as root:
        assert root.has_attribute("nb_layers")
        assert not root.has_attribute("other")
