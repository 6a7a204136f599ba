"""The index of a checkpoint in several files: `{"weight_map": {name: file}}`, as Hugging Face's libraries write it."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.json_text import json_file
from regraft.containers.spans import is_file_name
from regraft.errors import CheckpointError
from regraft.foundation.wording import counted

INDEX_SUFFIX = ".index.json"


def read_index(path: Path) -> dict[str, str]:
    """Array name → the name of the file beside the index that holds it.

    Raises CheckpointError when it is no index, or when a file is missing or is not in the folder of the index.
    """
    weight_map = _weight_map(path)
    files = sorted(set(weight_map.values()))
    outside = [name for name in files if not is_file_name(name) or name.endswith(INDEX_SUFFIX)]
    if outside:
        raise CheckpointError(f"{path}: refused to open {outside[0]!r}: the shards must be in the folder of the index.")
    missing = [name for name in files if not (path.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of {counted(len(files), 'shard', 'is/are')} missing: {', '.join(missing[:9])}.\n"
            "Download the whole folder."
        )
    return weight_map


def join_shards(path: Path, weight_map: Mapping[str, str], shards: Mapping[str, Checkpoint]) -> Checkpoint:
    """The arrays of all shards as one checkpoint, in the order of the index.

    weight_map  as `read_index` gives it
    shards      file name → the opened file

    Raises CheckpointError when arrays are not in the file that the index names.
    """
    owners = _owners(path, weight_map, shards)
    for shard in shards.values():  # what the index does not list
        owners |= {name: shard for name in shard if name not in owners}
    infos: dict[str, ArrayInfo] = {name: shard[name] for name, shard in owners.items()}
    opened = list(shards.values())
    layouts = {shard.layout for shard in opened}
    return Checkpoint(
        path=path, format=opened[0].format, layout=layouts.pop() if len(layouts) == 1 else None,
        infos=infos, reader=lambda name: owners[name].read(name),
        files=(path, *chain.from_iterable(shard.files for shard in opened)),
        requirements=tuple(chain.from_iterable(shard.requirements for shard in opened)),
        notes=tuple(dict.fromkeys(chain.from_iterable(shard.notes for shard in opened))),
    )  # fmt: skip


def _owners(path: Path, weight_map: Mapping[str, str], shards: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """Array name as in its shard → the shard, in the order of the index."""
    stored = {name: _name_in_shard(name, shards[file]) for name, file in weight_map.items()}
    lost = [f"{name} (not in {weight_map[name]})" for name, stored_name in stored.items() if stored_name is None]
    if lost:
        raise CheckpointError(
            f"{path}: {counted(len(lost), 'array', 'is/are')} not in the shard that the index names: "
            f"{', '.join(lost[:5])}.\nIndex and shards belong to different checkpoints."
        )
    return {stored_name: shards[weight_map[name]] for name, stored_name in stored.items() if stored_name is not None}


def is_shard(path: Path, index: Path) -> bool:
    """Whether the file is the index itself, or a shard that the index names."""
    try:
        return path == index or path.name in _weight_map(index).values()
    except CheckpointError:
        return False


def _name_in_shard(name: str, shard: Checkpoint) -> str | None:
    """The array's name in its shard; some writers join names with dots in the one and slashes in the other."""
    return next((form for form in (name, name.replace(".", "/"), name.replace("/", ".")) if form in shard), None)


def _weight_map(path: Path) -> dict[str, str]:
    """The index's map from names to files."""
    weight_map = json_file(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(
            f'{path}: it has no "weight_map" from array names to file names. It is not an index of shards.'
        )
    return weight_map
