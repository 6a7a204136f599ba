"""What LiteRT computes from a TensorFlow Lite file.

Source: ai.google.dev/edge/api/tflite/python/tf/lite/Interpreter.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from regraft.arrays import Checkpoint
from regraft.networks.network import Network
from regraft.networks.tflite import tensor_indices
from regraft.runtimes.recording import Arrays, Recording, required, values_of


def record_tflite(checkpoint: Checkpoint, network: Network, inputs: Arrays) -> Recording:
    """The outputs and all inner values, as real numbers. States that the file keeps between calls are zeros."""
    litert = required("ai_edge_litert.interpreter", "ai-edge-litert", "TensorFlow Lite")
    indices = tensor_indices(checkpoint)
    interpreter = litert.Interpreter(
        str(checkpoint.path),
        num_threads=1,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    names = {index: name for name, index in indices.items()}
    entries = {names[detail["index"]]: detail for detail in interpreter.get_input_details()}
    for name, detail in entries.items():
        interpreter.resize_tensor_input(detail["index"], inputs[name].shape)
    interpreter.allocate_tensors()
    taken = {name: np.zeros_like(value) for name, value in inputs.items()}
    for name, detail in entries.items():
        numbers = stored(inputs[name], detail)
        interpreter.set_tensor(detail["index"], numbers)
        taken[name] = real(numbers, detail).astype(inputs[name].dtype)
    interpreter.invoke()
    outputs = {detail["index"] for detail in interpreter.get_output_details()}
    states = {name for name in network.outputs if indices.get(name) not in outputs}
    asked = {name: indices[name] for name in values_of(network) - states if name in indices}
    return Recording(f"LiteRT {version('ai-edge-litert')}", taken, _real_values(interpreter, asked))


def _real_values(interpreter: Any, indices: Mapping[str, int]) -> Arrays:
    """The values of these tensors, as real numbers; none for a tensor that the interpreter has not kept."""
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    return {
        name: real(interpreter.get_tensor(index), details[index]) for name, index in indices.items() if index in details
    }


def stored(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    """Real numbers as the file stores them."""
    scale, zero = detail["quantization"]
    numbers = value
    if scale:
        limits = np.iinfo(detail["dtype"])
        numbers = np.clip(np.round(value / scale) + zero, limits.min, limits.max)
    return numbers.astype(detail["dtype"])


def real(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    """Stored numbers as the real ones that they stand for."""
    scale, zero = detail["quantization"]
    return np.asarray((value.astype(np.float64) - zero) * scale) if scale else value
