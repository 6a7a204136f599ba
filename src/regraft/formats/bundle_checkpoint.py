"""A tensor bundle as a checkpoint: variables under their own names, with roles and what the graph tells of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.protobuf import as_bytes, as_text, fields
from regraft.errors import CheckpointError
from regraft.formats.roles import roles_of
from regraft.formats.tensor_bundle import Bundle
from regraft.formats.tensorflow_graph import graph_facts
from regraft.foundation.wording import counted

NOT_NUMBERS = ("string", "resource", "variant")
NO_GRAPH = "The checkpoint does not record layer types, eps, padding or strides: there is no graph file beside it."


def open_bundle(path: Path, bundle: Bundle, name: str, *, program: Path) -> Checkpoint:
    """The checkpoint over a bundle; a bundle with an object graph is shown under its variables' real names.

    name      the format's name
    program   a file with the network's graph, where there is one: it tells paddings and the like
    """
    numeric = [key for key, entry in bundle.entries.items() if entry.dtype not in NOT_NUMBERS]
    notes = []
    if GRAPH_KEY in bundle.entries:
        names = variable_names(bundle.read_text(GRAPH_KEY))
        kept = _without_copies(numeric, names)
        if len(kept) < len(numeric):
            notes.append(
                f"{len(numeric) - len(kept)} arrays under _all_variables/ are left out: they are copies of those under "
                "variables/."
            )
        keys = unique_names(kept, names)
    else:
        keys = {key: key for key in numeric}
    skipped = [key for key, entry in bundle.entries.items() if entry.dtype in NOT_NUMBERS and key != GRAPH_KEY]
    if skipped:
        told = counted(len(skipped), "entry/entries", "holds no numbers and is/hold no numbers and are")
        notes.append(f"{told} left out: {_listed(skipped)}.")
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


def _infos(bundle: Bundle, keys: Mapping[str, str]) -> dict[str, ArrayInfo]:
    """name → what is told of it.  keys  name → key of the bundle"""
    infos = {}
    for name, key in keys.items():
        entry = bundle.entries[key]
        infos[name] = ArrayInfo(
            entry.shape, entry.dtype, note=f"joined from {len(entry.slices)} slices" if entry.slices else ""
        )
    # Either a variable's own name or its path may tell that it belongs to the optimiser. Keras 3 with
    # Checkpoint(model, optimizer) also keeps the weights under the optimiser's list of what it trains.
    paths = {
        name: path_of(key) for name, key in keys.items() if not re.search(r"(^|/)optimizer/_trainable_variables/", key)
    }
    by_path = roles_of({path: infos[name] for name, path in paths.items() if path != name})
    roles = {name: by_path[path] for name, path in paths.items() if path in by_path} | roles_of(infos)
    return {name: replace(info, role=roles[name]) if name in roles else info for name, info in infos.items()}


def _without_copies(keys: Sequence[str], names: dict[str, str]) -> list[str]:
    """Without Keras 3's second list of all variables, where the first one has each of the same name."""
    first = {names.get(key) for key in keys if not key.startswith("_all_variables/")} - {"", None}
    return [key for key in keys if not (key.startswith("_all_variables/") and names.get(key) in first)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names) - 5} more)" if len(names) > 5 else "")


GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def variable_names(graph: bytes) -> dict[str, str]:
    """Checkpoint key → the variable's own name, in the order of the graph. Keys without a name are left out."""
    names: dict[str, str] = {}
    for number, node in fields(graph):
        if number != 1:
            continue
        for field, attribute in fields(as_bytes(node)):
            if field == 2:
                told = dict(fields(as_bytes(attribute)))
                if 3 in told and as_text(told.get(1, memoryview(b""))) == "VARIABLE_VALUE":
                    names[as_text(told[3])] = as_text(told[2]) if 2 in told else ""
    return names


def unique_names(keys: list[str], names: dict[str, str]) -> dict[str, str]:
    """The name under which each key is shown → the key; real names where they are unique, else paths of objects.

    keys    those of the checkpoint that hold numbers
    names   as `variable_names` gives them

    A slot's name (`m`, `kernel/m`) need not say that it is one, so a slot keeps its path, which does.
    """
    ordered = [key for key in names if key in set(keys)]
    ordered += [key for key in keys if key not in names]
    counts = Counter(names.get(key) or path_of(key) for key in ordered)
    shown: dict[str, str] = {}
    for key in ordered:
        name = names.get(key) or path_of(key)
        is_own = counts[name] == 1 and ".OPTIMIZER_SLOT" not in key
        shown[name if is_own and name not in shown else path_of(key)] = key
    return shown


def path_of(key: str) -> str:
    """The path of objects that leads to the variable: the key without its constant end."""
    return key.removesuffix(_VALUE_SUFFIX)
