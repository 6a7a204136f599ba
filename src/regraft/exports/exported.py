"""What an export is made from: the model, an example of its input, and what its user needs to know beside it."""

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from regraft.errors import SaveError
from regraft.model_record import ModelRecord


@dataclass(frozen=True)
class Exported:
    """A saved model about to be written in another format.

    model    in evaluation mode
    record   of the run: classes, preparation of inputs, how the model was built
    example  a batch of two inputs; None where the run does not record their shape
    """

    folder: Path
    model: nn.Module
    record: ModelRecord
    example: Tensor | None

    @property
    def known_example(self) -> Tensor:
        """The example. Raises SaveError where its shape is not known."""
        if self.example is None:
            raise SaveError(
                f"{self.folder} does not record the shape of an input. Give it: --shape 3,224,224 for an image, in "
                "Python shape=(3, 224, 224)."
            )
        return self.example

    @property
    def facts(self) -> dict[str, str]:
        """Class names and the preparation of images as JSON texts, for the metadata of a file."""
        inputs = self.record.inputs
        known = {"classes": self.record.classes, "inputs": inputs and inputs.to_dict()}
        return {name: json.dumps(value) for name, value in known.items() if value is not None}
