"""safetensors: the plain state dict, with class names and preparation in the header."""

from pathlib import Path

from safetensors.torch import save_file

from regraft.exports.exported import Exported
from regraft.saving import plain_state


def write_state(exported: Exported, path: Path) -> None:
    """Write all arrays under the names of the model's state dict."""
    save_file(plain_state(exported.model), path, metadata={"format": "pt", **exported.facts})
