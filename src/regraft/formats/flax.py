"""Flax's msgpack checkpoints, read without Flax and without msgpack."""

from pathlib import Path
from typing import final

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.msgpack import ARRAY, Unpacker, array_leaves
from regraft.containers.spans import mapped
from regraft.errors import CheckpointError
from regraft.formats.flax_layers import with_flax_layers
from regraft.formats.format import Format
from regraft.formats.roles import with_roles


@final
class Flax(Format):
    """Files of `flax.serialization.to_bytes` and `flax.training.checkpoints.save_checkpoint`."""

    name = "flax"
    layout = "flax"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A msgpack map whose first key is a text, and whose first array is one of Flax's extensions."""
        lead = head[0] if head else 0
        key_at = 1 if 0x81 <= lead <= 0x8F else {0xDE: 3, 0xDF: 5}.get(lead, len(head))
        key = head[key_at + 1 : key_at + 1 + (head[key_at] & 31)] if key_at < len(head) else b""
        is_text = bool(key) and 0xA1 <= head[key_at] <= 0xBF and key.decode("utf-8", "replace").isprintable()
        # The first array's extension lies deeper than any fixed place; its code 1 follows one of these lead bytes.
        return is_text and any(
            head[index] in (0xC7, 0xC8, 0xC9) and _code(head, index) == ARRAY for index in range(len(head))
        )

    def open(self, path: Path) -> Checkpoint:
        """The arrays, named by their keys joined with "/", in the order of the file."""
        data = mapped(path)
        unpacker = Unpacker(path, data)
        tree = unpacker.value()
        if not isinstance(tree, dict) or unpacker.position != len(data):
            raise unpacker.damaged(f"the tree ends at byte {unpacker.position} and the file at {len(data)}")
        arrays = dict(array_leaves(tree, ""))
        if not arrays:
            raise CheckpointError(f"{path}: the tree holds no array. Is this a checkpoint?")
        infos = with_roles({name: ArrayInfo(array.shape, array.dtype) for name, array in arrays.items()})
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=with_flax_layers(infos), files=(path,),
            reader=lambda name: arrays[name].read(),
            notes=("Flax files hold no settings: eps, padding, strides and activations are in the program only.",),
        )  # fmt: skip


def _code(head: bytes, position: int) -> int:
    """The code of the extension whose lead byte lies at `position`; -1 when the head ends before it."""
    code_position = position + 1 + {0xC7: 1, 0xC8: 2, 0xC9: 4}[head[position]]
    return head[code_position] if code_position < len(head) else -1
