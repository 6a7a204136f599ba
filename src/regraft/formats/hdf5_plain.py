"""HDF5 files that no Keras wrote: every array under its own path, in whatever groups it lies."""

from collections.abc import Iterator

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.hdf5.tree import Group, InPieces
from regraft.containers.spans import Located
from regraft.errors import CheckpointError
from regraft.formats.roles import with_roles

_NOTE = (
    "Keras did not write this HDF5 file: its arrays are named by their path in it, and the file does not record their "
    "axis order. Pass `layout` to plan_reuse."
)


def open_plain(root: Group) -> Checkpoint:
    """The arrays of all groups; texts, tables and links are left out with a note.

    Raises CheckpointError when none is left, or one cannot be read.
    """
    arrays: dict[str, Located | InPieces] = {}
    left_out: list[str] = []
    for name, array in _walk(root, "", {}):
        if array is None:
            left_out.append(name)
        else:
            arrays[name] = array
    path = root.span.path
    if not arrays:
        raise CheckpointError(f"{path}: the HDF5 file holds no array of numbers. It is damaged or not a checkpoint.")
    note = f"{len(left_out)} texts, tables and links are left out: {', '.join(left_out[:5])}."
    return Checkpoint(
        path=path, format="hdf5", layout=None, reader=lambda name: arrays[name].read(), files=(path,),
        infos=with_roles({name: ArrayInfo(array.shape, array.dtype) for name, array in arrays.items()}),
        notes=(_NOTE, *([note] if left_out else [])),
    )  # fmt: skip


def holds_group(group: Group, name: str) -> bool:
    """Whether a group of that name lies somewhere below this one; Keras keeps its weights in groups named "vars"."""
    waiting, seen = [group], {group.group.address: None}
    while waiting:
        current = waiting.pop()
        for key in current.names():
            child = None if current.leads_away(key) else current.child(key)
            if child is not None and key == name:
                return True
            if child is not None and child.group.address not in seen:
                seen[child.group.address] = None
                waiting.append(child)
    return False


def _walk(group: Group, path: str, seen: dict[int, None]) -> Iterator[tuple[str, Located | InPieces | None]]:
    """(path, array) of each array below the group, None for what is no array of numbers; a group is entered once."""
    seen[group.group.address] = None
    for name in group.names():
        whole = f"{path}/{name}".lstrip("/")
        child = None if group.leads_away(name) else group.child(name)
        if child is None:
            yield whole, group.array(name) if group.holds_numbers(name) else None
        elif child.group.address not in seen:
            yield from _walk(child, whole, seen)
