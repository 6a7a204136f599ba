"""Darknet's `.weights`: numbers without names or shapes, which the network's `.cfg` beside the file tells."""

import re
import struct
from pathlib import Path
from typing import final

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.spans import Located, located
from regraft.errors import CheckpointError
from regraft.formats.darknet_network import read_darknet_network
from regraft.formats.format import Format

_NAME = re.compile(r".+\.weights|.+\.conv\.(?P<layers>\d{1,4})")
_HEAD = struct.Struct("<iii")
_VERSIONS = [bytes([minor, revision]) for minor in range(3) for revision in range(6)]


@final
class Darknet(Format):
    """`.weights` files, and `.conv.N` files, which hold the first N layers."""

    name = "darknet"
    layout = "torch"

    def recognises(self, path: Path, head: bytes) -> bool:
        """The version is 0.0 to 0.2, the suffix Darknet's, and a network lies beside the file."""
        return (
            head[:4] == bytes(4)
            and head[4:12:4] in _VERSIONS
            and _NAME.fullmatch(path.name) is not None
            and _network_beside(path) is not None
        )

    def open(self, path: Path) -> Checkpoint:
        """The arrays in the order of the file: `convolutional_0.weight`, `batch_norm_0.bias` …"""
        cfg = _network_beside(path)
        if cfg is None:
            raise CheckpointError(
                f"{path}: put the network's .cfg beside it: the file itself holds no names or shapes."
            )
        match = _NAME.fullmatch(path.name)
        network = read_darknet_network(cfg, int(match["layers"]) if match and match["layers"] else None)
        stored: dict[str, Located] = {}
        infos = {}
        end = _start(path)
        for array in network.stored:
            name = f"{array.layer}.{array.leaf}"
            stored[name] = located(path, name, end, array.shape, "float32")
            end += stored[name].span.size
            infos[name] = ArrayInfo(
                array.shape, "float32", layer_type=array.layer_type, layer=array.layer, leaf=array.leaf
            )
        size = path.stat().st_size
        if end != size:
            raise CheckpointError(
                f"{path}: the network of {cfg.name} needs {end} bytes, the file has {size}.\n"
                "It is truncated, or the .cfg is that of another network."
            )
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos, reader=lambda name: stored[name].read(),
            files=(path, cfg), requirements=tuple(network.wiring),
            notes=("The eps of the batch-norms is not in the file: Darknet adds 1e-5 on a GPU.",),
        )  # fmt: skip


def _start(path: Path) -> int:
    """Where the numbers begin: behind the version and the number of images seen, which has 8 bytes from 0.2 on."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise CheckpointError(f"{path}: the head is cut short. Download the file again.")
    major, minor, _ = _HEAD.unpack(head)
    return _HEAD.size + (8 if 10 * major + minor >= 2 else 4)


def _network_beside(path: Path) -> Path | None:
    """The `.cfg` of the same name, or the only one of the folder."""
    own = path.with_suffix(".cfg")
    if own.is_file():
        return own
    others = [entry for entry in path.parent.glob("*.cfg") if entry.is_file()]
    return others[0] if len(others) == 1 else None
