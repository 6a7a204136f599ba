"""Which layer of a Keras description owns an array, where only the array's name tells it."""

from collections.abc import Mapping
from dataclasses import replace

from regraft.arrays import ArrayInfo
from regraft.formats.keras_config import Layer


def with_keras_layers(infos: Mapping[str, ArrayInfo], model: Layer) -> dict[str, ArrayInfo]:
    """Each array with the layer that its name begins with: by the layers' paths, or by a name that is unique."""
    by_path = {layer.path: layer for layer in model.walk() if layer.path}
    by_name: dict[str, Layer | None] = {}
    for layer in by_path.values():
        by_name[layer.name] = None if layer.name in by_name else layer
    found = {}
    for name, info in infos.items():
        parts = name.split("/")
        for end in range(len(parts) - 1, 0, -1):
            owner = by_path.get("/".join(parts[:end])) or by_name.get(parts[end - 1])
            if owner is not None:
                leaf = "/".join(parts[end:])
                info = replace(info, layer_type=owner.class_name, layer=owner.path, leaf=leaf)
                break
        found[name] = info
    return found
