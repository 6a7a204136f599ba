"""What ONNX Runtime computes from an ONNX file.

Source: onnxruntime.ai/docs/api/python (InferenceSession). It shows inner values that are outputs of the graph.
"""

import numpy as np

from regraft.arrays import Checkpoint
from regraft.networks.network import Network
from regraft.runtimes.recording import Arrays, Recording, required, values_of


def record_onnx(checkpoint: Checkpoint, network: Network, inputs: Arrays) -> Recording:
    """The outputs, and every value that the network and the top level of the graph have in common."""
    onnx = required("onnx", "onnx", "ONNX")
    runtime = required("onnxruntime", "onnxruntime", "ONNX")
    model = onnx.load(str(checkpoint.path))
    hidden = values_of(network) - {output.name for output in model.graph.output}
    shown = dict.fromkeys(name for node in model.graph.node for name in node.output if name in hidden)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # The module takes inputs of half precision as float32.
    halves = {entry.name for entry in session.get_inputs() if entry.type == "tensor(float16)"}
    taken = {name: value.astype(np.float16) if name in halves else value for name, value in inputs.items()}
    results = session.run(None, taken)
    names = [output.name for output in session.get_outputs()]
    values = {name: np.asarray(value) for name, value in zip(names, results, strict=True)}
    return Recording(f"ONNX Runtime {runtime.__version__}", inputs, values)
