"""The step that proves a built network: its values beside those that the source framework's own runtime computes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.arrays import Checkpoint
from regraft.building import BuiltNetwork, planned_network
from regraft.errors import VerifyError
from regraft.foundation.wording import counted
from regraft.loading import apply_plan
from regraft.networks.network import Network, Shapes
from regraft.networks.samples import sample_shapes
from regraft.networks.stepping import in_code_order, in_file_order, run_steps
from regraft.plan import Plan
from regraft.runtimes.keras import record_keras
from regraft.runtimes.onnx import record_onnx
from regraft.runtimes.recording import Arrays, Recording
from regraft.runtimes.tensorflow import record_tensorflow
from regraft.runtimes.tflite import record_tflite
from regraft.verifying import Difference, Golden

Record = Callable[[Checkpoint, Network, Arrays], Recording]
RUNTIMES: Mapping[str, Record] = {  # the reader's name → its source runtime
    "onnx": record_onnx, "tflite": record_tflite, "keras": record_keras, "keras-h5": record_keras,
    "tensorflow-v1": record_tensorflow, "tensorflow-v2": record_tensorflow, "tensorflow-frozen": record_tensorflow,
    "savedmodel": record_tensorflow,
}  # fmt: skip
_ROUNDING = 5.0  # times the difference between float32 and float64: another order of sums differs by as much
_APPROXIMATION = 2e-7  # of ONNX Runtime's sigmoid and LiteRT's exp, absolute; their values are up to 1
_KINDS = "fiub"  # of NumPy's dtypes, which are compared
_MOST = (100, 2)  # random whole numbers are below: many embeddings have 100 rows, switches are 0 or 1


@dataclass(frozen=True)
class RuntimeVerification:
    """The outputs agree with the source runtime.

    runtime  its name and version
    outputs  how far each output is from the runtime's
    steps    the same of each inner value that the runtime shows, in the order of the forward
    rtol     the largest difference, as a share of the largest value of an output
    notes    which outputs differ by more, and what explains it
    """

    runtime: str
    outputs: tuple[Difference, ...]
    steps: tuple[Difference, ...]
    rtol: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        error = f"max error {max(map(relative, self.outputs)):.1e} of the largest value"
        lines = [f"agrees with {self.runtime}: {counted(len(self.outputs), 'output')}, {error}"]
        if self.steps:
            step = max(self.steps, key=relative)
            lines.append(f"  {counted(len(self.steps), 'inner value')} compared, the worst is {step}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def relative(difference: Difference) -> float:
    """The largest error as a share of the largest value; of a value that is 0 everywhere the error itself."""
    return difference.max_error / (difference.largest or 1.0)


def verify_with_runtime(
    checkpoint: Checkpoint,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    rtol: float = 1e-5,
    record: Record | None = None,
) -> RuntimeVerification:
    """How closely the network that is built from a file computes what the file's own runtime computes, value by value.

    ONNX files run in ONNX Runtime, TFLite files in LiteRT, Keras files in Keras, graphs in TensorFlow; it must be
    installed.

    inputs  input of the file → its values, in the file's order of axes; random numbers by default
    shapes  input → a shape at which the network works, where its file leaves sizes free and only some are possible
    seed    of the random numbers: from 0 to 1, whole numbers below 100
    rtol    the largest difference as a share of an output's largest value
    record  runs the file in another runtime: (checkpoint, network, inputs) → Recording

    Raises VerifyError when an output differs: by how much, and from which inner value on; and when the runtime is not
    installed. Raises BuildError when the network cannot be built.
    """
    run = _run(checkpoint, inputs, shapes, seed, record)
    compared = _differences(run)
    wrong, noise = _wrong(run, compared, rtol)
    names = {value.name for value in run.built.source.results}
    outputs = tuple(entry for entry in compared if entry.name in names)
    steps = tuple(entry for entry in compared if entry.name not in names)
    if not outputs or not set(outputs).isdisjoint(wrong):
        raise VerifyError(_refusal(run, outputs, steps, wrong, rtol))
    notes = tuple(_explained(entry, noise) for entry in outputs if relative(entry) > rtol)
    return RuntimeVerification(run.recording.runtime, outputs, steps, rtol, notes)


def _differences(run: "_Run") -> list[Difference]:
    """How far each value is from the runtime's, in the order of the forward."""
    compared = (_compared(name, value, run.recording) for name, value in run.computed.items())
    return [entry for entry in compared if entry is not None]


def _wrong(run: "_Run", compared: Sequence[Difference], rtol: float) -> tuple[list[Difference], float]:
    """(what differs by more than the share and than rounding explains, how much rounding does)."""
    wrong = [entry for entry in compared if not _agrees(entry, rtol)]
    noise = _rounding(run.built, run.recording.inputs, run.computed) if wrong else 0.0
    return [entry for entry in wrong if relative(entry) > _ROUNDING * noise], noise


def _explained(output: Difference, noise: float) -> str:
    """Why an output counts as equal although it differs by more than the share."""
    if output.max_error <= _APPROXIMATION:
        return f"{output}: runtimes approximate the sigmoid and the exponential function by up to {_APPROXIMATION:g}"
    return f"{output}: float32 differs from float64 by {noise:.1e} of the largest value in this network"


def _refusal(
    run: "_Run", outputs: Sequence[Difference], steps: Sequence[Difference], wrong: Sequence[Difference], rtol: float
) -> str:
    """Which outputs differ, and the first value that does."""
    runtime = run.recording.runtime
    if not outputs:
        return f"{runtime} shows none of the outputs, so that there is nothing to compare."
    first = next((entry for entry in steps if entry in wrong), None)
    counts = counted(len(steps), "inner value")
    where = f"None of the {counts} before them differs."
    if first is not None:
        where = f"The first of {counts} that differs is {first}."
    return "\n".join([
        f"The network differs from {runtime} by more than {rtol:g} of an output's largest value.",
        *(f"  {entry}" for entry in outputs if entry in wrong),
        *([where] if steps else []),
        *(note for note in run.built.notes if "rounds" in note or "rounding" in note),
    ])  # fmt: skip


# --- what both compute ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """The network with its weights, what the runtime computes, and what the module computes from the same inputs."""

    built: BuiltNetwork
    recording: Recording
    computed: Mapping[str, Tensor]


def _run(
    checkpoint: Checkpoint,
    inputs: Arrays | None,
    shapes: Mapping[str, Sequence[int]] | None,
    seed: int,
    record: Record | None = None,
) -> _Run:
    """Both on these inputs, or on the first random ones that both take."""
    record = record or RUNTIMES.get(checkpoint.format)
    if record is None:
        raise VerifyError(f"There is no runtime for {checkpoint.format} files; there is one for {', '.join(RUNTIMES)}.")
    built = planned_network(checkpoint, shapes=shapes)
    apply_plan(built.plan, checkpoint, built.model)
    problem: Exception | None = None
    for taken in _attempts(built.network, inputs, shapes or {}, seed):
        try:
            recording = record(checkpoint, built.network, taken)
            return _Run(built, recording, _computed(built, recording.inputs))
        except VerifyError:
            raise
        except Exception as error:  # each runtime has its own errors for sizes that it does not take
            problem = problem or error
    raise VerifyError(
        f"No inputs that were tried can be computed: {type(problem).__name__}: {problem}\n"
        'Pass a shape for each input, shapes={"input": (1, 576)}, or the inputs themselves.'
    )


def _attempts(
    network: Network, inputs: Arrays | None, shapes: Mapping[str, Sequence[int]], seed: int
) -> Iterator[Arrays]:
    if inputs is not None:
        yield _checked(inputs, network)
        return
    for sample, most in product(sample_shapes(network.entries, shapes), _MOST):
        yield random_inputs(network, sample, most, seed)


def _checked(inputs: Arrays, network: Network) -> Arrays:
    """One array for each input of the network; a single one may be called x."""
    names = [entry.name for entry in network.entries]
    if len(names) == 1 and set(inputs) == {"x"}:
        return {names[0]: inputs["x"]}
    if set(inputs) != set(names):
        raise VerifyError(f"The inputs are {', '.join(inputs) or 'none'}; the network takes {', '.join(names)}.")
    return {name: np.asarray(inputs[name]) for name in names}


def random_inputs(network: Network, shapes: Shapes, most: int, seed: int) -> dict[str, np.ndarray]:
    """Numbers from 0 to 1, and whole numbers below `most`."""
    rng = np.random.default_rng(seed)
    return {
        entry.name: rng.random(shapes[entry.name]).astype(np.float32)
        if "float" in entry.dtype
        else rng.integers(0, most, shapes[entry.name]).astype(entry.dtype)
        for entry in network.entries
    }


def _computed(built: BuiltNetwork, inputs: Arrays, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every value that the module computes, in the file's order of axes; the outputs are those of its own forward."""
    feed = {entry.name: in_code_order(_tensor(inputs[entry.name], dtype), entry) for entry in built.source.entries}
    model = built.model if dtype == torch.float32 else deepcopy(built.model).to(dtype)
    values: dict[str, Tensor] = {}
    with torch.no_grad():
        for given in run_steps(model, built.source, feed):
            values.update(given)
        results = model(*feed.values())
    results = results if isinstance(results, tuple) else (results,)
    outputs = zip(built.source.results, results, strict=True)
    return {**values, **{value.name: in_file_order(result, value) for value, result in outputs}}


def _rounding(built: BuiltNetwork, inputs: Arrays, computed: Mapping[str, Tensor]) -> float:
    """How far the outputs are from those of float64, as a share of the largest value; 0 without float64."""
    try:
        exact = _computed(built, inputs, torch.float64)
    except RuntimeError:  # a step that makes float32 numbers itself
        return 0.0
    names = {value.name for value in built.source.results if computed[value.name].is_floating_point()}
    pairs = [(exact[name], computed[name].double()) for name in names if computed[name].numel()]
    return max((float((a - b).abs().max()) / (float(b.abs().max()) or 1.0) for a, b in pairs), default=0.0)


def _tensor(value: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _compared(name: str, computed: Tensor, recording: Recording) -> Difference | None:
    """How far a value is from the runtime's; None for a value that the runtime does not show."""
    wanted = recording.values.get(name)
    if wanted is None or not wanted.size or wanted.dtype.kind not in _KINDS:
        return None
    mine, theirs = computed.double().numpy(), wanted.astype(np.float64)
    if mine.squeeze().shape == theirs.squeeze().shape:  # a condition of one value, a step axis of one step
        mine = mine.reshape(theirs.shape)
    if mine.shape != theirs.shape:
        return Difference(name, float("inf"), float("inf"), 1.0, f"{mine.shape} instead of {theirs.shape}")
    error = np.where((mine == theirs) | (np.isnan(mine) & np.isnan(theirs)), 0.0, np.abs(mine - theirs))
    error = np.nan_to_num(error, nan=np.inf)
    finite = np.abs(theirs[np.isfinite(theirs)])
    return Difference(name, float(error.max()), float(error.mean()), float(finite.max(initial=0.0)))


def _agrees(difference: Difference, rtol: float) -> bool:
    return difference.max_error <= max(rtol * (difference.largest or 1.0), _APPROXIMATION)


# --- for a model that was written by hand -----------------------------------------------------------------------------


def golden_by_runtime(
    checkpoint: Checkpoint,
    plan: Plan,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> Golden:
    """What the source runtime computes, as `verify` takes it for another model, which the plan fills from the file.

    Maps have their channels second. Layers have the names of that model; they are those that take the same arrays as a
    layer of the built network. The other arguments are those of `verify_with_runtime`, which says what is raised.
    """
    run = _run(checkpoint, inputs, shapes, seed)
    built, recording = run.built, run.recording
    given = [in_code_order(_tensor(recording.inputs[entry.name]), entry) for entry in built.source.entries]
    shown = {name: _tensor(value) for name, value in recording.values.items() if value.dtype.kind in _KINDS}
    wanted = [in_code_order(shown[value.name], value) for value in built.source.results if value.name in shown]
    return Golden(_single(given), _single(wanted), _layers(built, plan, shown))


def _layers(built: BuiltNetwork, plan: Plan, shown: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Module of the plan's model → what the runtime gives for it."""
    sources = {module: names for names, module in _modules(built.plan).items()}
    modules = _modules(plan)
    return {
        modules[names]: in_code_order(shown[value.name], value).numpy()
        for statement in built.source.statements
        for value in statement.values[:1]
        if (names := sources.get(statement.layer, frozenset())) in modules and value.name in shown
    }


def _modules(plan: Plan) -> dict[frozenset[str], str]:
    """The arrays of the file that a module takes → the module."""
    taken: dict[str, set[str]] = {}
    for row in plan.reused:
        taken.setdefault(row.name.rpartition(".")[0], set()).update(row.sources)
    return {frozenset(names): module for module, names in taken.items() if names}


def _single(tensors: Sequence[Tensor]) -> Any:
    """Arrays as `verify` takes them: a single one without its tuple."""
    arrays = tuple(tensor.numpy() for tensor in tensors)
    return arrays[0] if len(arrays) == 1 else arrays
