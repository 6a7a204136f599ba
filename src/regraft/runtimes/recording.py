"""What a source runtime computed for a network's file."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from regraft.errors import VerifyError
from regraft.networks.network import Network

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Recording:
    """One run of a source runtime.

    runtime  its name and version
    inputs   what it took: quantised inputs as the real numbers of their integers, states as zeros
    values   value of the network → its numbers, for the outputs and for the inner values that the runtime shows
    """

    runtime: str
    inputs: Arrays
    values: Arrays


def values_of(network: Network) -> set[str]:
    """The names of all values that the network computes."""
    return {name for node in network.nodes for name in node.outputs}


def required(module: str, package: str, kind: str) -> Any:
    """An optional library. Raises VerifyError with the command that installs it.

    package  as the package registry names it
    kind     of the file that needs it: "ONNX"
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise VerifyError(
            f"The runtime of {kind} files is not installed ({error}). Install it with `pip install {package}`, or "
            "record the outputs on another machine and compare them with `regraft verify PLAN --golden FILE.npz`."
        ) from error
