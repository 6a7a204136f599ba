"""A writer of TensorFlow.js models, so that tests can build any of them."""

import json

import numpy as np


def write_tfjs(folder, arrays, *, shards=2, quantised=None, topology=None):
    """`model.json` and its shards, cut at equal sizes without regard to the arrays.

    quantised  name → (integers or halves to store, the entry's "quantization")
    topology   the "modelTopology"; that of a graph model when left out
    """
    entries, content = [], b""
    for name, array in arrays.items():
        entry = {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
        if quantised and name in quantised:
            array, entry["quantization"] = quantised[name]
        entries.append(entry)
        content += np.ascontiguousarray(array).tobytes()
    size = -(-len(content) // shards)
    names = [f"group1-shard{number + 1}of{shards}.bin" for number in range(shards)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(content[number * size : (number + 1) * size])
    model = {
        "format": "graph-model" if topology is None else "layers-model",
        "modelTopology": {"node": []} if topology is None else topology,
        "weightsManifest": [{"paths": names, "weights": entries}],
    }
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"
