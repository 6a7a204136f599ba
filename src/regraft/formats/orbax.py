"""Orbax and t5x checkpoints of all generations: a folder for each array, one key-value store, Zarr 2 and 3.

Source: google/orbax, checkpoint/orbax/checkpoint/_src/metadata/tree.py; google-research/t5x, t5x/checkpoints.py.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.json_text import JsonObject, json_file
from regraft.containers.msgpack import Chunked, Number, Unpacker, array_leaves
from regraft.containers.spans import Located, mapped
from regraft.containers.zarr_array import ZarrArray, read_array
from regraft.containers.zarr_stores import MANIFEST, METADATA, Folders, KeyValues
from regraft.errors import CheckpointError
from regraft.formats.flax_layers import with_flax_layers
from regraft.formats.format import Format
from regraft.formats.roles import with_roles

_TREE, _STEP, _OLD_TREE = "_METADATA", "_CHECKPOINT_METADATA", "checkpoint"
_STORED = {"jax.Array", "np.ndarray", "scalar"}  # other leaves are texts, or nothing
_MOST_FOLDERS = 2000  # that are looked at to recognise a checkpoint


@final
class Orbax(Format):
    """Folders of Orbax, of t5x, and of Flax where it saves with Orbax."""

    name = "orbax"
    layout = "flax"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A folder that holds arrays, or that holds a folder of arrays beside Orbax' own file."""
        try:
            return path.is_dir() and (_holds_arrays(path) or bool(_items(path) or _steps(path)))
        except OSError:
            return False

    def open(self, path: Path) -> Checkpoint:
        """The arrays, named by their keys joined with "/"; of several items, behind the item's name.

        Raises CheckpointError for a folder of several steps: which one is the user's choice.
        """
        arrays: dict[str, Any] = {}
        files: list[Path] = []
        notes = ["Orbax files hold no settings: eps, padding, strides and activations are in the program only."]
        items = _items_of(path)
        for item in items:
            own_arrays, own_files, own_notes = _item(item)
            prefix = f"{item.name}/" if len(items) > 1 else ""
            arrays |= {prefix + name: array for name, array in own_arrays.items()}
            files += own_files
            notes += own_notes
        if not arrays:
            raise CheckpointError(f"{path}: it holds no array. It is damaged, or it is not a checkpoint.")
        infos = with_roles({name: ArrayInfo(array.shape, array.dtype) for name, array in arrays.items()})
        infos = with_flax_layers({name: _with_role(name, info) for name, info in infos.items()})
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos, files=tuple(files), notes=tuple(notes),
            reader=lambda name: arrays[name].read(),
        )  # fmt: skip


def _items_of(path: Path) -> list[Path]:
    """The folders whose arrays are the checkpoint: this one, its items, or those of its one step."""
    if _holds_arrays(path):
        return [path]
    steps = _steps(path)
    if len(steps) > 1:
        names = ", ".join(step.name for step in steps)
        raise CheckpointError(f"{path} holds {len(steps)} steps: {names}. Open one of them: {steps[-1]}.")
    home = steps[0] if steps else path
    return [home] if steps and _holds_arrays(home) else _items(home)


def _with_role(name: str, info: ArrayInfo) -> ArrayInfo:
    """t5x keeps the optimiser's copies of each weight under state/param_states, and the step beside them."""
    if name.startswith("state/param_states/"):
        return replace(info, role="optimizer_slot")
    return replace(info, role="counter") if name == "state/step" else info


def _holds_arrays(path: Path) -> bool:
    """Whether arrays lie in this folder itself."""
    if (path / MANIFEST).is_file() or (path / _TREE).is_file():
        return True
    folders = [entry for entry in sorted(path.iterdir())[:_MOST_FOLDERS] if entry.is_dir()]
    return any((folder / name).is_file() for folder in folders for name in METADATA)


def _items(path: Path) -> list[Path]:
    """The items of one step of Orbax' manager, such as `default` or `params`."""
    if not (path / _STEP).is_file():
        return []
    return [entry for entry in sorted(path.iterdir())[:_MOST_FOLDERS] if entry.is_dir() and _holds_arrays(entry)]


def _steps(path: Path) -> list[Path]:
    """The steps below the manager's own folder, oldest first."""
    folders = [entry for entry in sorted(path.iterdir())[:_MOST_FOLDERS] if entry.is_dir() and entry.name.isdigit()]
    steps = [folder for folder in folders if _items(folder) or _holds_arrays(folder)]
    return sorted(steps, key=lambda folder: int(folder.name))


def _item(path: Path) -> tuple[dict[str, Any], list[Path], list[str]]:
    """(arrays, files, notes) of one tree."""
    store = KeyValues(path) if (path / MANIFEST).is_file() else Folders(path)
    described = _described(path)
    names = _names(described, path)
    _check_stored(path, names, store.names())
    others = {name: name.replace(".", "/") for name in store.names() if name not in names}
    arrays: dict[str, Any] = {name: read_array(store, stored) for stored, name in (names | others).items()}
    partly = [name for name, array in arrays.items() if array.missing]
    if partly and described.get("store_array_data_equal_to_fill_value"):
        missing = arrays[partly[0]].missing
        raise CheckpointError(f"{path}: {missing} chunks of {partly[0]} are missing. Download them again.")
    note = f"{', '.join(partly[:5])}: chunks that are not stored are zeros, as the writer leaves those out."
    return _from_old_tree(path) | arrays, store.files, [note] if partly else []


def _check_stored(path: Path, names: Collection[str], stored: Collection[str]) -> None:
    """Raises CheckpointError unless all arrays that are listed are stored."""
    absent = sorted(set(names) - set(stored))
    if absent:
        raise CheckpointError(
            f"{path}: {len(absent)} of {len(names)} arrays are listed and not stored: {', '.join(absent[:5])}.\n"
            "The checkpoint is incomplete: download it again."
        )


def _described(path: Path) -> JsonObject:
    """The description of the tree; {} where an older Orbax wrote none."""
    file = path / _TREE
    return json_file(file) if file.is_file() else {}


def _names(described: JsonObject, path: Path) -> dict[str, str]:
    """name in the store → name joined with "/", in the tree's order; keys that are numbers become texts."""
    names: dict[str, str] = {}
    try:
        for leaf in (described.get("tree_metadata") or {}).values():
            keys = [str(key["key"]) for key in leaf["key_metadata"]]
            if not leaf["value_metadata"].get("skip_deserialize") and leaf["value_metadata"]["value_type"] in _STORED:
                names[".".join(keys)] = "/".join(keys)
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path / _TREE}: the description is damaged ({error!r}). Download it again.") from error
    return names


def _from_old_tree(path: Path) -> dict[str, Located | Chunked | Number | ZarrArray]:
    """The arrays that the first Orbax and t5x keep in a file `checkpoint` beside the folders."""
    file = path / _OLD_TREE
    if not file.is_file():
        return {}
    data = mapped(file)
    unpacker = Unpacker(file, data)
    tree = unpacker.value()
    if unpacker.position != len(data):
        raise unpacker.damaged(f"the tree ends at byte {unpacker.position} and the file at {len(data)}")
    return {name: array for name, array in array_leaves(_without_places(tree), "") if not isinstance(array, Number)}


def _without_places(tree: object) -> Any:
    """The tree without the descriptions that stand for arrays in folders (t5x writes tensorstore's there)."""
    if not isinstance(tree, dict):
        return tree
    return (
        None if {"driver", "kvstore"} <= tree.keys() else {key: _without_places(value) for key, value in tree.items()}
    )
