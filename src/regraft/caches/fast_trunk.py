"""The fast engine: a frozen trunk compiled once and compared with the exact one.

A frozen trunk is a fixed function, so its norms can be folded into its convolutions and its weights laid out for the
processor once. The trunk is traced by `torch.jit.trace`, and the trace is compiled by one of RUNTIMES.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.cuts.cut import Cut
from regraft.cuts.program import Features
from regraft.errors import Advice, CacheError
from regraft.examples import call
from regraft.splitting import FeatureComputer, Trunk
from regraft.tensors.trees import Inputs, map_tree, tensors_of

TOLERANCE = 1e-5  # of the largest value of a row: how far compiled features may be from the exact ones
ROUNDS = 3  # in which the exact and the compiled trunk are timed in turns

Compiled = Callable[..., tuple[Tensor, ...]]


@final
class FastTrunk(FeatureComputer):
    """A trunk that computes batches of one size by a compiled copy of its operations, and others as they are.

    exact    the trunk
    runtime  a name of RUNTIMES
    rows     of the batches that the copy computes
    """

    def __init__(self, exact: Trunk, runtime: str, rows: int) -> None:
        self.exact, self.cut, self.runtime, self.rows = exact, exact.cut, runtime, rows
        self.step_work = exact.step_work
        self._shapes: list[torch.Size] = []
        self._compiled: Compiled | None = None

    def compile(self, inputs: Inputs) -> float:
        """Compile the trunk for batches like this one.

        Returns the largest difference from the exact features on it, relative to the largest value of the row.

        Raises CacheError where the runtime cannot compile the trunk, or computes other features.
        """
        try:
            self._shapes, self._compiled = _shapes(inputs), RUNTIMES[self.runtime](_traced(self.exact, inputs), inputs)
            return self.check(inputs)
        except CacheError:
            raise
        except Exception as error:
            text = str(error).strip().partition("\n")[0]
            raise self._unusable(f"cannot compile this trunk ({type(error).__name__}: {text})") from error

    def check(self, inputs: Inputs) -> float:
        """The largest difference from the exact features on another batch; returns and raises as `compile` does."""
        with torch.no_grad():
            difference = largest_difference(call(self.exact, inputs), call(self, inputs))
        if not difference <= TOLERANCE:
            raise self._unusable(
                f"computes other features: they differ by {difference:.1g} of the largest value of a row, more than "
                f"{TOLERANCE:g}"
            )
        return difference

    def __call__(self, *args: object, **kwargs: object) -> Features:
        """The features of a batch, as `Trunk` gives them."""
        tensors = tensors_of((args, kwargs))
        if len(tensors[0]) != self.rows:
            return self.exact(*args, **kwargs)
        if self._compiled is None:
            self.compile(kwargs or (args if len(args) != 1 else args[0]))
        if self._compiled is None or _shapes(tensors) != self._shapes:
            return self.exact(*args, **kwargs)
        self.exact.refuse_changed_settings()
        return dict(zip((leaf.name for leaf in self.cut.leaves), self._compiled(*tensors), strict=True))

    def frozen_tensors(self) -> dict[str, Tensor]:
        """As the exact trunk."""
        return self.exact.frozen_tensors()

    def describe(self) -> dict[str, Any]:
        """What the exact features depend on, and the runtime that computes these, with its version."""
        return {**self.exact.describe(), "runtime": f"{self.runtime} {_version(self.runtime)}"}

    def cut_for(self, batch_size: int) -> Cut:
        """As the exact trunk."""
        return self.exact.cut_for(batch_size)

    def row_shapes(self, *args: object, **kwargs: object) -> dict[str, tuple[int | None, ...]]:
        """As the exact trunk."""
        return self.exact.row_shapes(*args, **kwargs)

    def _unusable(self, problem: str) -> CacheError:
        return CacheError(
            f"{self.runtime} {problem}.", advice=[Advice("engine", "exact", "run the model's own forward")]
        )


def gain_of(fast: FastTrunk, inputs: Inputs) -> float:
    """How many times as fast as the exact trunk a compiled one computes a batch: the median of a few rounds."""
    gains = []
    for _ in range(ROUNDS):  # in turns, so that a busy machine slows both
        exact_s, fast_s = (seconds_of(trunk, inputs) for trunk in (fast.exact, fast))
        gains.append(exact_s / fast_s)
    return statistics.median(gains)


def installed_runtimes(device: torch.device) -> list[str]:
    """The names of the runtimes that are installed, those that need no further package last."""
    found = [name for name in RUNTIMES if _version(name) and (name == "torchscript" or device.type == "cpu")]
    return sorted(found, key=lambda name: name == "torchscript")


def largest_difference(exact: Mapping[str, Tensor], fast: Mapping[str, Tensor]) -> float:
    """The largest difference of two features of the same batch, relative to the largest value of the row.

    Infinite where shapes, types, integers or gaps (no finite number) differ.
    """
    return max(_difference(rows, fast[name]) for name, rows in exact.items())


def _difference(exact: Tensor, fast: Tensor) -> float:
    if exact.shape != fast.shape or exact.dtype != fast.dtype:
        return float("inf")
    if not exact.is_floating_point() or not bool(exact.isfinite().all()):
        return 0.0 if torch.equal(exact, fast) else float("inf")
    sizes = exact.double().abs().flatten(1).amax(1)
    apart = (exact.double() - fast.double()).abs().flatten(1).amax(1)
    # A row of zeros is no more exact than the others.
    return float((apart / sizes.clamp(min=1e-3 * float(sizes.max()) or 1.0)).max())


def _shapes(inputs: Inputs) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors_of(inputs)]


@final
class _Traceable(nn.Module):
    """The trunk as a module of tensors: the inputs' tensors in order → the leaves in order."""

    def __init__(self, trunk: Trunk, inputs: Inputs) -> None:
        super().__init__()
        self._run = trunk  # no submodule: the trace takes its weights as constants
        self._inputs = inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        left = iter(tensors)
        features = call(self._run, map_tree(lambda _: next(left), self._inputs))
        return tuple(features[leaf.name] for leaf in self._run.cut.leaves)


def _traced(trunk: Trunk, inputs: Inputs) -> Any:
    with _quiet(), torch.no_grad():
        return torch.jit.trace(_Traceable(trunk, inputs).eval(), tuple(tensors_of(inputs)), check_trace=False)


def _torchscript(traced: Any, inputs: Inputs) -> Compiled:
    with _quiet(), torch.no_grad():
        return torch.jit.optimize_for_inference(traced)  # folds norms, lays weights out for the processor


def _openvino(traced: object, inputs: Inputs) -> Compiled:
    import openvino

    with _quiet(), torch.no_grad():
        model = openvino.convert_model(traced, example_input=tuple(tensors_of(inputs)))
    # On processors with bfloat16 or int8 units OpenVINO would lower the precision by itself.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        results = compiled([tensor.numpy() for tensor in tensors])
        return tuple(torch.from_numpy(results[output].copy()) for output in compiled.outputs)

    return run


RUNTIMES: dict[str, Callable[[Any, Inputs], Compiled]] = {"torchscript": _torchscript, "openvino": _openvino}


def _version(runtime: str) -> str:
    """The version of a runtime; "" where it is not installed."""
    try:
        return version("torch" if runtime == "torchscript" else runtime)
    except PackageNotFoundError:
        return ""


def seconds_of(trunk: FeatureComputer, inputs: Inputs) -> float:
    """Seconds in which a trunk computes a batch, features copied to memory."""
    with torch.no_grad():
        started = time.perf_counter()
        for rows in call(trunk, inputs).values():
            rows.cpu()
        return time.perf_counter() - started


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings: that tracing is deprecated, and that the sizes of a batch are taken as constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
