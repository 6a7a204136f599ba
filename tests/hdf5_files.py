"""HDF5 files that h5py writes in each of the library's file versions, and the objects that the own reader finds."""

from contextlib import contextmanager

import h5py

from regraft.containers.hdf5.file import Hdf5File
from regraft.containers.hdf5.links import links
from regraft.containers.hdf5.objects import read_object
from regraft.containers.hdf5.tree import opened
from regraft.containers.spans import Span

VERSIONS = ("earliest", "v108", "v110", "latest")


def write(folder, fill, *, version="earliest", **options):
    """A file that `fill(file)` filled; only the structures of that file version are in it."""
    path = folder / f"{version}.h5"
    bounds = version if version in ("earliest", "latest") else (version, version)
    with h5py.File(path, "w", libver=bounds, **options) as file:
        fill(file)
    return path


def whole(path):
    """The span of the whole file."""
    return Span(path, 0, path.stat().st_size)


def root_of(path):
    """The root's object."""
    file = Hdf5File(whole(path))
    return read_object(file, file.root)


def object_at(path, name):
    """The object of that name in the root."""
    root = root_of(path)
    return read_object(root.file, links(root)[name])


@contextmanager
def reopened(path):
    """The root as the readers see it."""
    with opened(whole(path)) as root:
        yield root
