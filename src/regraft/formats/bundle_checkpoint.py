"""A tensor bundle as a checkpoint: variables under their own names, with roles and what the graph records of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from regraft.arrays import ArrayInfo, Checkpoint, Role
from regraft.containers.protobuf import field_bytes, field_text, grouped, last_bytes
from regraft.errors import CheckpointError
from regraft.formats.roles import roles_of
from regraft.formats.tensor_bundle import NOT_NUMBERS, Bundle
from regraft.formats.tensorflow_graph import graph_facts
from regraft.foundation.wording import counted, listed

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_TRAINED = re.compile(r"(^|/)optimizer/_trainable_variables/")
NO_GRAPH = "The checkpoint does not record layer types, eps, padding or strides: there is no graph file beside it."


def open_bundle(path: Path, bundle: Bundle, name: str, *, program: Path) -> Checkpoint:
    """The checkpoint over a bundle; a bundle with an object graph is shown under its variables' real names.

    name      the format's name
    program   a file with the network's graph, where there is one: it records paddings and the like
    """
    keys, notes = _keys(bundle)
    skipped = [key for key, entry in bundle.entries.items() if entry.dtype in NOT_NUMBERS and key != GRAPH_KEY]
    if skipped:
        count = counted(len(skipped), "entry/entries", "holds no numbers and is/hold no numbers and are")
        notes.append(f"{count} left out: {listed(skipped, count=5)}.")
    if not keys:
        raise CheckpointError(
            f"{path}: it holds no arrays of numbers: a program without variables, or lookup tables only."
        )
    facts = graph_facts(program, keys)
    if not facts.layer_types:
        notes.append(NO_GRAPH)
    infos = facts.added_to(_infos(bundle, keys))
    return Checkpoint(
        path=path, format=name, layout="tensorflow", infos=infos, reader=lambda shown: bundle.read(keys[shown]),
        files=(*bundle.files, *facts.files), requirements=facts.requirements, notes=(*notes, *facts.notes),
    )  # fmt: skip


def shown_names(prefix: Path) -> dict[str, str]:
    """Key of a bundle's array → the name under which it is shown; a copy has the name of its original.

    prefix  of the bundle's files
    """
    bundle = Bundle(prefix)
    shown = {key: name for name, key in _keys(bundle)[0].items()}
    own = variable_names(bundle.read_text(GRAPH_KEY)) if GRAPH_KEY in bundle.entries else {}
    copies = {key: name for key, name in own.items() if key.startswith("_all_variables/") and name in shown.values()}
    return copies | shown


def _keys(bundle: Bundle) -> tuple[dict[str, str], list[str]]:
    """(name → key of each array of numbers, notes)."""
    numeric = [key for key, entry in bundle.entries.items() if entry.dtype not in NOT_NUMBERS]
    if GRAPH_KEY not in bundle.entries:
        return {key: key for key in numeric}, []
    names = variable_names(bundle.read_text(GRAPH_KEY))
    kept = _without_copies(numeric, names)
    copies = len(numeric) - len(kept)
    note = f"{copies} arrays under _all_variables/ are left out: they are copies of those under variables/."
    return unique_names(kept, names), [note] if copies else []


def _infos(bundle: Bundle, keys: Mapping[str, str]) -> dict[str, ArrayInfo]:
    """name → what is known of the array.  keys  name → key of the bundle"""
    infos = {}
    for name, key in keys.items():
        entry = bundle.entries[key]
        note = f"joined from {len(entry.slices)} slices" if entry.slices else ""
        infos[name] = ArrayInfo(entry.shape, entry.dtype, note=note)
    roles = _roles_by_path(infos, keys) | roles_of(infos)
    return {name: replace(info, role=roles[name]) if name in roles else info for name, info in infos.items()}


def _roles_by_path(infos: Mapping[str, ArrayInfo], keys: Mapping[str, str]) -> dict[str, Role]:
    """name → role, where the path of objects that leads to a variable says it rather than the variable's own name.

    Keras 3 with Checkpoint(model, optimizer) keeps the weights under the optimiser's list of what it trains, too.
    """
    paths = {name: path_of(key) for name, key in keys.items() if not _TRAINED.search(key)}
    by_path = roles_of({path: infos[name] for name, path in paths.items() if path != name})
    return {name: by_path[path] for name, path in paths.items() if path in by_path}


def _without_copies(keys: Sequence[str], names: dict[str, str]) -> list[str]:
    """Without Keras 3's second list of all variables, where the first one has each of the same name."""
    first = {names.get(key) for key in keys if not key.startswith("_all_variables/")} - {"", None}
    return [key for key in keys if not (key.startswith("_all_variables/") and names.get(key) in first)]


def variable_names(graph: bytes) -> dict[str, str]:
    """Checkpoint key → the variable's own name, in the order of the graph. Keys without a name are left out."""
    names: dict[str, str] = {}
    for node in grouped(graph)[1]:
        for attribute in grouped(field_bytes(node))[2]:
            values = grouped(field_bytes(attribute))
            if values[3] and field_text(last_bytes(values[1])) == "VARIABLE_VALUE":
                names[field_text(last_bytes(values[3]))] = field_text(last_bytes(values[2]))
    return names


def unique_names(keys: list[str], names: dict[str, str]) -> dict[str, str]:
    """The name under which each key is shown → the key; real names where they are unique, else paths of objects.

    keys    those of the checkpoint that hold numbers
    names   as `variable_names` gives them

    A slot's name (`m`, `kernel/m`) need not say that it is one, so a slot keeps its path, which does.
    """
    numeric = set(keys)
    own = {key: names.get(key) or path_of(key) for key in (*filter(numeric.__contains__, names), *keys)}
    counts = Counter(own.values())
    shown: dict[str, str] = {}
    for key, name in own.items():
        is_own = counts[name] == 1 and ".OPTIMIZER_SLOT" not in key and name not in shown
        shown[name if is_own else path_of(key)] = key
    return shown


def path_of(key: str) -> str:
    """The path of objects that leads to the variable: the key without its constant end."""
    return key.removesuffix(_VALUE_SUFFIX)
