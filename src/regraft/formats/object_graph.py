"""The object graph inside TF2 checkpoints: which variable a key like `model/layer-3/_variables/13` is.

Source: tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from collections import Counter

from regraft.containers.wire import as_bytes, as_text, fields

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
