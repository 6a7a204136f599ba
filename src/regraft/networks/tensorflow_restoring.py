"""Which variable of a SavedModel is which array: as the graph's own function restores them, since names may differ.

Source: tensorflow/python/checkpoint/functional_saver.py.
"""

from collections.abc import Mapping

from regraft.arrays import Checkpoint
from regraft.containers.protobuf import field_text, grouped
from regraft.formats.bundle_checkpoint import shown_names
from regraft.formats.tensorflow_program import ProgramOperation


def restored_names(checkpoint: Checkpoint, operations: Mapping[str, ProgramOperation]) -> dict[str, str]:
    """Operation that gives a variable → its name in the checkpoint, for all that the graph restores.

    checkpoint  of a SavedModel
    """
    index = next((path for path in checkpoint.files if path.name == "variables.index"), None)
    shown = shown_names(index.with_suffix("")) if index is not None else {}
    names: dict[str, str] = {}
    for operation in operations.values():
        if operation.op == "AssignVariableOp" and len(operation.inputs) == 2:
            key = _key_of(operations, operation.inputs[1])
            if key in shown and shown[key] in checkpoint:
                names[operation.inputs[0]] = shown[key]
    return names


def _key_of(operations: Mapping[str, ProgramOperation], value: str) -> str:
    """The key under which a restored value lies; "" for values that are not restored."""
    name, _, place = value.partition(":")
    operation = operations.get(name)
    for _ in range(4):
        if operation is None or operation.op not in ("Identity", "Cast") or not operation.inputs:
            break
        name, _, place = operation.inputs[0].partition(":")
        operation = operations.get(name)
    if operation is None or operation.op != "RestoreV2":
        return ""
    listed = operations.get(operation.inputs[1].partition(":")[0])
    tensor = listed.settings.get("value") if listed is not None else None
    keys = [field_text(text) for text in grouped(tensor)[8]] if isinstance(tensor, memoryview) else []
    return keys[int(place or 0)] if int(place or 0) < len(keys) else ""
