"""ONNX, checked against ONNX Runtime on random inputs before anything is written."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.errors import SaveError, VerifyError
from regraft.exports.exported import Exported
from regraft.exports.torch_program import program_of

ROWS = 3  # another number than the example's, so that a fixed batch size is noticed
RELATIVE = 1e-4  # of the largest output: float32 sums in another order, as ONNX Runtime fuses operators


def write_onnx(exported: Exported, path: Path) -> None:
    """Write the model as ONNX: input `input` (batch, …), output `output`; class names and preparation as metadata.

    Raises SaveError when onnx, onnxscript or onnxruntime is not installed or torch cannot export the model, and
    VerifyError when ONNX Runtime gives other outputs than the model.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter writes with it
    except ImportError as error:
        raise SaveError(f"The export to ONNX needs {error.name}: pip install 'regraft[onnx]'.") from error
    program = program_of(exported)
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own code
        made = torch.onnx.export(program, **names, dynamo=True, verbose=False)
    assert made is not None
    proto = made.model_proto
    for name, value in exported.facts.items():
        proto.metadata_props.add(key=f"regraft.{name}", value=value)
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    _verify(exported, onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]))
    path.write_bytes(content)


def _verify(exported: Exported, session: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((ROWS, *exported.known_example.shape[1:]), generator=generator)
    with torch.inference_mode():
        ours: Tensor = exported.model(inputs)
    theirs = torch.from_numpy(session.run(["output"], {"input": inputs.numpy()})[0])
    if ours.shape != theirs.shape:
        raise VerifyError(f"ONNX Runtime gives the shape {tuple(theirs.shape)}, the model {tuple(ours.shape)}.")
    difference, size = float((ours - theirs).abs().max()), float(ours.abs().max())
    if not difference <= RELATIVE * max(size, 1.0):
        raise VerifyError(
            f"ONNX Runtime gives other outputs than the model: the largest difference is {difference:.3g}, with "
            f"outputs up to {size:.3g}. Nothing was written."
        )
