"""Pickles of NumPy arrays, as Theano, Lasagne and hand-written code save parameters; of Python 2 and 3."""

from pathlib import Path
from typing import final

from regraft.arrays import Checkpoint
from regraft.containers.npy_header import left_out_note
from regraft.formats.format import Format
from regraft.formats.pickled_arrays import arrays_of_pickled_file
from regraft.formats.roles import with_roles

# How a pickle of a container or of an array begins: protocol 2 to 5, or the text of protocol 0 and 1.
_BINARY = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))
_TEXT = (b"(lp", b"(dp", b"(l.", b"(t", b"cnumpy", b"ccollections\nOrderedDict", b"]q", b"}q", b"(d.")
_TORCH_LEGACY = bytes.fromhex("8a0a6cfc9c46f9206aa85019")


@final
class NumpyPickle(Format):
    """A `.pkl` of a list, tuple or dictionary of NumPy arrays."""

    name = "numpy-pickle"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the file begins as a pickle does and is not torch's."""
        is_binary = head.startswith(_BINARY) and _TORCH_LEGACY not in head[:32]
        return is_binary or head.startswith(_TEXT)

    def open(self, path: Path) -> Checkpoint:
        """The arrays, named by keys and positions joined with dots."""
        found, left_out = arrays_of_pickled_file(path, 0)
        infos = with_roles({name: info for name, (info, _) in found.items()})
        return Checkpoint(
            path, self.name, None, infos, lambda name: found[name][1](), (path,), notes=left_out_note(left_out)
        )
