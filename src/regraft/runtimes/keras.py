"""What Keras computes from a .keras or .h5 file.

Source: keras.io/api/models/model (a model of the outputs of another model's layers).
"""

from itertools import accumulate
from typing import Any

import numpy as np

from regraft.arrays import Checkpoint
from regraft.networks.network import Network
from regraft.runtimes.recording import Arrays, Recording, required


def record_keras(checkpoint: Checkpoint, network: Network, inputs: Arrays) -> Recording:
    """The outputs, and what each layer gives that the model itself calls once."""
    keras = required("keras", "keras", "Keras")
    model = keras.models.load_model(str(checkpoint.path), compile=False)
    values = last_values(network)
    layers = [layer for layer in model.layers if layer.name in values and _is_called_once(layer)]
    inner = keras.Model(model.inputs, [*model.outputs, *(layer.output for layer in layers)])
    given = list(inputs.values())
    results = inner.predict(given if len(given) > 1 else given[0], verbose=0)
    results = results if isinstance(results, list) else [results]
    names = [*network.outputs, *(values[layer.name] for layer in layers)]
    shown = {name: np.asarray(value) for name, value in zip(names, results, strict=True)}
    return Recording(f"Keras {keras.__version__}", inputs, shown)


def last_values(network: Network) -> dict[str, str]:
    """Layer → the value that its last step gives ("conv" → "conv:2"), of layers whose steps are all its own.

    Left out are models in the model, layers with parts ("attention/query"), and steps with several results.
    """
    last = {node.outputs[0].rpartition(":")[0]: node for node in network.nodes}
    whole = {layer for name in last for layer in accumulate(name.split("/")[:-1], "{}/{}".format)}
    return {layer: node.outputs[0] for layer, node in last.items() if len(node.outputs) == 1 and layer not in whole}


def _is_called_once(layer: Any) -> bool:
    return len(layer._inbound_nodes) == 1 and not isinstance(layer.output, list | tuple)
