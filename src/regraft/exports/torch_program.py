"""`torch.export`: a program of torch's own operators that runs without the model's code and without regraft."""

from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from regraft.errors import SaveError
from regraft.exports.exported import Exported


def write_program(exported: Exported, path: Path) -> None:
    """Write the program; `torch.export.load(path).module()` runs it, for batches of any size.

    Class names and the preparation of images are in the file as `extra_files` named classes and inputs.
    Raises SaveError when torch cannot export the model, with torch's own reason.
    """
    torch.export.save(program_of(exported), path, extra_files=exported.facts)


def program_of(exported: Exported) -> ExportedProgram:
    """The model as a program with a free batch size. Raises SaveError when its outputs are not those of the model."""
    example = exported.known_example
    try:
        with torch.no_grad():
            program = torch.export.export(exported.model, (example,), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:  # torch raises what it likes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise SaveError(
            f"torch.export cannot write the model of {exported.folder}: {type(error).__name__}: {reason}\n"
            "Its forward must not depend on the values of its inputs, nor on their number of rows."
        ) from error
    more = torch.cat([example, example[:1]])
    with torch.inference_mode():
        ours, theirs = exported.model(more), program.module()(more)
    if not isinstance(ours, Tensor) or not torch.equal(ours, theirs):
        raise SaveError(f"The exported program of {exported.folder} gives other outputs than the model.")
    return program
