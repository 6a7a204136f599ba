"""The step that proves: the model's outputs beside those that the source framework recorded."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.errors import VerifyError
from regraft.examples import call
from regraft.foundation.wording import near_names
from regraft.plans.mistakes import possible_mistakes
from regraft.tensors.keeping import kept_modes
from regraft.tensors.trees import map_tree, tensors_of


@dataclass(frozen=True)
class Difference:
    """How far one output is from the recorded one: absolute errors; `shapes` says how its shape differs."""

    name: str
    max_error: float
    mean_error: float
    largest: float
    shapes: str = ""

    def __str__(self) -> str:
        if self.shapes:
            return f"{self.name}: the shape is {self.shapes}"
        sizes = f"max error {self.max_error:.2e}, mean {self.mean_error:.2e}"
        return f"{self.name}: {sizes}, values up to {self.largest:.3g}"


@dataclass(frozen=True)
class Verification:
    """The outputs agree within `atol`. `layers` holds the compared intermediate outputs, in order of the forward."""

    outputs: tuple[Difference, ...]
    layers: tuple[Difference, ...]
    atol: float

    @property
    def max_error(self) -> float:
        """The largest absolute difference of any output value."""
        return max(output.max_error for output in self.outputs)

    @property
    def mean_error(self) -> float:
        """The mean absolute difference, of the worst output."""
        return max(output.mean_error for output in self.outputs)

    def __str__(self) -> str:
        lines = [f"agrees within {self.atol:g}: max error {self.max_error:.2e}, mean {self.mean_error:.2e}"]
        return "\n".join([*lines, *(f"  {layer}" for layer in self.layers)])


@dataclass(frozen=True)
class Golden:
    """What the source framework recorded: `inputs` and `outputs`, and the outputs of `layers` of ours."""

    inputs: Any
    outputs: Any
    layers: Mapping[str, np.ndarray]


def read_golden(path: Path) -> Golden:
    """The recording in an .npz: x or x0, x1 … in, y or y0, y1 … out, and layer.NAME for the outputs between.

    Raises VerifyError when the file cannot be read so; nothing in it is executed.
    """
    arrays = read_arrays(path)
    inputs, outputs = _side(arrays, "x"), _side(arrays, "y")
    if inputs is None or outputs is None:
        listed = ", ".join(arrays) or "nothing"
        raise VerifyError(f"{path} has no x (inputs) or no y (outputs): it holds {listed}.")
    layers = [name for name in arrays if name.startswith("layer.")]
    return Golden(inputs, outputs, {name.removeprefix("layer."): arrays[name] for name in layers})


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an .npz. Raises VerifyError when the file cannot be read so; nothing in it is executed."""
    if path.exists() and not path.is_file():
        raise VerifyError(f"{path} is not a file.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for damaged files
        raise VerifyError(f"{path} cannot be read as a recording: {error}.") from error


def _side(arrays: Mapping[str, np.ndarray], letter: str) -> np.ndarray | tuple[np.ndarray, ...] | None:
    """The arrays x, or x0, x1 …; a single one without its tuple, None for none."""
    side = tuple(array for name, array in arrays.items() if re.fullmatch(rf"{letter}\d*", name))
    return side[0] if len(side) == 1 else side or None


def verify(
    model: nn.Module,
    inputs: object,
    expected: object,
    *,
    atol: float = 1e-5,
    intermediate: Mapping[str, object] | None = None,
) -> Verification:
    """How closely the model, in evaluation mode, gives the outputs that the source framework recorded.

    inputs        an array or tensor, a tuple (model(*inputs)) or a dict (model(**inputs)), as the model takes them
    expected      the recorded output, in the model's own axis order; a tuple or dict for several outputs
    atol          the largest absolute difference of a value; 1e-5 is what float32 sums in another order differ by
    intermediate  layer name → its recorded output: then the error names the first layer that differs

    Raises VerifyError when an output differs: by how much, from which layer on, and which known mistake explains it.
    The model is left as it was.
    """
    inputs = map_tree(_on(model), _tensors(inputs))
    wanted = _tensors(expected)
    recorded = {name: _tensors(value) for name, value in (intermediate or {}).items()}
    with kept_modes(model), torch.no_grad():
        model.eval()
        given, layers = _run(model, inputs, recorded)
        try:
            outputs = _compare(given, wanted)
        except VerifyError as error:  # another shape, which another cut or padding may explain
            raise VerifyError("\n".join([error.text, *_agreeing(model, inputs, wanted, atol)])) from error
        if all(output.max_error <= atol for output in outputs):
            return Verification(tuple(outputs), tuple(layers), atol)
        explained = _agreeing(model, inputs, wanted, atol)
        head = f"The outputs differ by more than {atol:g}."
        raise VerifyError("\n".join([head, *_listed(outputs, layers, atol), *explained]))


def _listed(outputs: Sequence[Difference], layers: Sequence[Difference], atol: float) -> list[str]:
    """How far each output is off, and the first layer that differs."""
    differing = [layer for layer in layers if layer.max_error > atol]
    more = "With intermediate={layer: recorded output} the first layer that differs is named."
    first = f"The first layer that differs is {differing[0]}." if differing else more
    return [*(f"  {output}" for output in outputs), first]


def _tensors(value: object) -> Any:
    """NumPy arrays as tensors, in the same structure."""
    if isinstance(value, Mapping):
        return {name: _tensors(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_tensors(part) for part in value)
    return torch.tensor(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value


def _on(model: nn.Module) -> Any:
    """A function that brings a tensor to the model's device."""
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    return lambda tensor: tensor.to(device)


def _run(model: nn.Module, inputs: object, recorded: Mapping[str, object]) -> tuple[Any, list[Difference]]:
    """(outputs, differences of the recorded layers in the order in which they ran)."""
    modules = dict(model.named_modules())
    unknown = [f"There is no layer {name!r}. {near_names(name, modules)}" for name in recorded if name not in modules]
    if unknown:
        raise VerifyError("\n".join(unknown))
    layers: list[Difference] = []

    def compare(name: str, _: nn.Module, __: object, output: object) -> None:
        layers.extend(_compare(output, recorded[name], name=name))

    with ExitStack() as hooks:
        for name in recorded:
            hooks.callback(modules[name].register_forward_hook(partial(compare, name)).remove)
        try:
            return call(model, inputs), layers
        except (RuntimeError, TypeError, ValueError) as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_of(inputs))
            raise VerifyError(
                f"The model cannot take the recorded inputs {shapes}: {error}\nImages go in as (batch, channels, "
                "height, width). What TensorFlow recorded is channels last: transpose it, x.transpose(0, 3, 1, 2)."
            ) from error


def _compare(given: object, wanted: object, *, name: str = "output") -> list[Difference]:
    mine, theirs = tensors_of(_tensors(given)), tensors_of(wanted)
    if len(mine) < len(theirs):
        raise VerifyError(f"{name}: {len(theirs)} arrays were recorded, the model gives {len(mine)}.")
    return [
        _difference(name if len(theirs) == 1 else f"{name} {index}", output, record)
        for index, (output, record) in enumerate(zip(mine, theirs, strict=False))
    ]


def _difference(name: str, given: Tensor, wanted: Tensor) -> Difference:
    if given.shape != wanted.shape:
        raise VerifyError(
            f"{name}: {tuple(wanted.shape)} was recorded, the model gives {tuple(given.shape)}.\n"
            "Recorded maps must have the model's axis order: for TensorFlow's (n, h, w, c) use x.transpose(0, 3, 1, 2)."
        )
    error = (given.detach().cpu().double() - wanted.detach().cpu().double()).abs()
    error = error.nan_to_num(nan=float("inf"))  # a NaN on one side only is the largest of differences
    if not error.numel():
        raise VerifyError(f"{name} is empty: there is nothing to compare.")
    return Difference(name, float(error.max()), float(error.mean()), float(wanted.double().abs().max()))


def _agreeing(model: nn.Module, inputs: object, wanted: object, atol: float) -> list[str]:
    """A sentence for each known mistake without which the model agrees."""
    sentences = []
    for mistake in possible_mistakes(model):
        with mistake.trial(model):
            if _agrees(model, inputs, wanted, atol):
                sentences.append(f"It agrees when {mistake.words}.")
    return sentences


def _agrees(model: nn.Module, inputs: object, wanted: object, atol: float) -> bool:
    try:
        return all(output.max_error <= atol for output in _compare(_run(model, inputs, {})[0], wanted))
    except (RuntimeError, VerifyError):  # what was tried gives maps of other sizes: it explains nothing
        return False
