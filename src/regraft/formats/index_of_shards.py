"""Checkpoints in several files with an index: `pytorch_model.bin.index.json`, `flax_model.msgpack.index.json`.

Hugging Face's way for formats that have none of their own. (safetensors' index is read by its own reader.)
"""

import json
from collections.abc import Callable
from pathlib import Path

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.spans import Span
from regraft.errors import CheckpointError

INDEX_SUFFIX = ".index.json"


def open_index(path: Path, open_shard: Callable[[Path], Checkpoint]) -> Checkpoint:
    """The arrays of all shards, in the order of the index.

    Raises CheckpointError when it is no index, a shard is missing or lies elsewhere, or does not hold what is told.
    """
    told = _weight_map(path)
    names = sorted(set(told.values()))
    outside = [name for name in names if Path(name).name != name or "\x00" in name or name.endswith(INDEX_SUFFIX)]
    if outside:
        raise CheckpointError(
            f"{path}: refused to open {outside[0]!r}: a shard lies beside its index, never elsewhere."
        )
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of {len(names)} shards are missing: {', '.join(missing[:9])}.\n"
            "Fetch the whole folder."
        )
    shards = {name: open_shard(path.parent / name) for name in names}
    owners: dict[str, Checkpoint] = {}
    for name, file in told.items():
        owners[_found(path, name, file, shards[file])] = shards[file]
    for shard in shards.values():  # what the index does not list
        owners |= {name: shard for name in shard if name not in owners}
    infos: dict[str, ArrayInfo] = {name: shard[name] for name, shard in owners.items()}
    first = shards[names[0]]
    return Checkpoint(
        path=path, format=first.format, layout=first.layout, infos=infos, reader=lambda name: owners[name].read(name),
        files=(path, *(file for name in names for file in shards[name].files)),
        requirements=tuple(one for name in names for one in shards[name].requirements),
        notes=tuple(dict.fromkeys(note for name in names for note in shards[name].notes)),
    )  # fmt: skip


def is_shard(path: Path, index: Path) -> bool:
    """Whether the index names the file."""
    try:
        return path == index or path.name in _weight_map(index).values()
    except CheckpointError:
        return False


def _found(path: Path, name: str, shard: str, checkpoint: Checkpoint) -> str:
    """The array's name in its shard; some writers join names with dots in the one and slashes in the other."""
    for candidate in (name, name.replace(".", "/"), name.replace("/", ".")):
        if candidate in checkpoint:
            return candidate
    raise CheckpointError(
        f"{path}: {name} is not in {shard}, where the index says. Index and shards belong to different checkpoints."
    )


def _weight_map(path: Path) -> dict[str, str]:
    """The index's map from names to files."""
    try:
        told = json.loads(Span(path, 0, path.stat().st_size).read())
        found = told["weight_map"]
        if not found or not all(isinstance(shard, str) for shard in found.values()):
            raise TypeError("the names of the files are no texts")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f'{path}: there is no "weight_map" from names to files ({error!r:.100}). It is no index of shards.'
        ) from error
    return dict(found)
