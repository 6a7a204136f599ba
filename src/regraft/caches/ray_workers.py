"""Workers on Ray that fill one store: Ray places them on nodes and GPUs, and starts those again that die."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from types import ModuleType
from typing import Any, TypeVar, final

from regraft.caches.options import Engine, Share
from regraft.errors import CacheError, RegraftError
from regraft.foundation.wording import counted

T = TypeVar("T")
Work = Callable[[Share], T]
EXACT_ENGINE = Engine()
LOOK_S = 2.0  # between looks at the store while workers compute
# Read when Ray is imported. A Ray that is started here listens on this machine's loopback address alone, sends no
# statistics, and does not warn of what it will do with the GPUs of workers that ask for none.
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 200_000_000  # of a Ray that is started here: it carries the model and the data set alone


@final
@dataclass(frozen=True, kw_only=True)
class Ray:
    """Workers on a Ray cluster, for `cache_features(…, engine=Ray(workers=4))`. Needs `pip install regraft[ray]`.

    workers   processes; None: as many as the cluster has room for
    cpus      that Ray reserves for each worker
    gpus      that Ray reserves for each worker; 0.5 puts two on a GPU. The model has to be on the GPU, too
    address   of the cluster, as `ray.init` takes it. None: the one that this process is connected to, or that of
              RAY_ADDRESS; else Ray is started on this machine, on its loopback address, and ended afterwards
    restarts  how often Ray starts a worker again that has died; -1 without a limit
    engine    how each worker runs the trunk

    The store is shared by all workers: a folder that all nodes see, or a URL. Raises CacheError for numbers that make
    no sense.
    """

    workers: int | None = None
    cpus: float = 1
    gpus: float = 0
    address: str | None = None
    restarts: int = 3
    engine: Engine = EXACT_ENGINE

    def __post_init__(self) -> None:
        lowest = {"workers": 1, "cpus": 0, "gpus": 0, "restarts": -1}
        values = {name: getattr(self, name) for name in lowest}
        problems = [
            f"{name} is {value}, expected {lowest[name]} or more"
            for name, value in values.items()
            if value is not None and value < lowest[name]
        ]
        if self.engine.runtime != "exact":
            problems.append("each worker would choose by its own measurement how to run fast: engine=Engine() is exact")
        if problems:
            raise CacheError("Ray cannot be used: " + "; ".join(problems) + ".")

    def run(self, work: Work[T], look: Callable[[], None] = lambda: None) -> list[T]:
        """What each worker returns for its share, of those that have ended; `look` is called every two seconds or so.

        Raises what a worker has raised, and CacheError when all workers have died more often than they are restarted.
        """
        ray = _library()
        with self.connected():
            count = self.workers or self._room(ray.cluster_resources())
            self._refuse_too_small(ray)
            packed = ray.put(_packed(ray, work))
            kind = ray.remote(
                num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=self.restarts, max_task_retries=self.restarts
            )(_Worker)
            workers = [kind.remote() for _ in range(count)]
            tasks = [worker.run.remote(packed, Share(number, count)) for number, worker in enumerate(workers)]
            return _results(ray, tasks, look)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """In the block this process is connected to the cluster: several calls then start no Ray of their own."""
        ray = _library()
        if ray.is_initialized():
            yield
            return
        address = self.address or os.environ.get("RAY_ADDRESS")
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if address:
            ray.init(address=address, **quiet)
        else:
            _listen_on_loopback()
            cpus = max(os.cpu_count() or 1, round((self.workers or 1) * self.cpus))
            ray.init(
                address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address=LOOPBACK, **quiet,
            )  # fmt: skip
        try:
            yield
        finally:
            ray.shutdown()

    def _room(self, resources: dict[str, float]) -> int:
        """How many workers the cluster has room for."""
        rooms = [resources.get(name, 0) / each for name, each in (("CPU", self.cpus), ("GPU", self.gpus)) if each]
        return max(1, int(min(rooms, default=1)))

    def _refuse_too_small(self, ray: ModuleType) -> None:
        """Raise CacheError where not one worker has room in a cluster of one node: Ray would wait for ever.

        Larger clusters may grow when they are asked to.
        """
        nodes = ray.nodes()
        if len(nodes) > 1:
            return
        for name, each in (("CPU", self.cpus), ("GPU", self.gpus)):
            if each > nodes[0]["Resources"].get(name, 0):
                raise CacheError(
                    f"A worker needs {each:g} {name}, and the Ray cluster has {nodes[0]['Resources'].get(name, 0):g}. "
                    f"Ask for less, {name.lower()}s=…, or connect to another cluster, address=…."
                )


class _Worker:
    """What runs on the cluster."""

    def run(self, packed: bytes, share: Share) -> Any:
        """The work for a share."""
        import ray.cloudpickle

        return ray.cloudpickle.loads(packed)(share)


def _results(ray: ModuleType, tasks: list[Any], look: Callable[[], None]) -> list[Any]:
    """The results of the tasks whose workers live."""
    results, deaths, pending = list[Any](), list[str](), tasks
    while pending:
        done, pending = ray.wait(pending, timeout=LOOK_S)
        for task in done:
            try:
                results.append(ray.get(task))
            except ray.exceptions.RayTaskError as error:
                raise _cause_of(error) from error
            except ray.exceptions.RayError as error:
                deaths.append(str(error).splitlines()[0])
        look()
    if not results:
        raise CacheError(
            f"All {counted(len(deaths), 'worker')} on Ray died: {deaths[0]}\nWhat they had committed stays, and the "
            "next build goes on. A worker that needs more memory than its node has is killed: use fewer workers, or "
            "smaller batches."
        )
    return results


def _cause_of(error: Any) -> RegraftError:
    """What a worker has raised."""
    return error.cause if isinstance(error.cause, RegraftError) else CacheError(f"A worker failed: {error.cause!r}")


def _library() -> ModuleType:
    """Ray. Raises CacheError where it is not installed."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.cloudpickle
    except ImportError as error:
        raise CacheError(f"Workers on Ray need Ray: pip install 'regraft[ray]'. {error}") from error
    library: ModuleType = ray
    return library


def _listen_on_loopback() -> None:
    """Let a Ray that was imported before ENVIRONMENT was set keep a loopback address, which it replaces otherwise."""
    constants = sys.modules.get("ray._private.ray_constants")
    if constants is not None and os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0":
        constants.ENABLE_RAY_CLUSTER = False  # type: ignore[attr-defined]


def _packed(ray: ModuleType, work: object) -> bytes:
    """The work for other processes; code that is not installed there, as a script's or a job's, travels with it.

    Raises CacheError for what cannot be sent.
    """
    pickle: Any = ray.cloudpickle
    modules = _modules_not_installed()
    for module in modules:
        pickle.register_pickle_by_value(module)
    try:
        content: bytes = pickle.dumps(work)
    except Exception as error:  # objects raise what they like
        raise CacheError(
            f"The model or the data set cannot be sent to other processes: {type(error).__name__}: {error}\nOpen files "
            "and connections when an example is asked for, not before; or start `regraft fill job.toml` in several "
            "processes, which need nothing sent."
        ) from error
    finally:
        for module in modules:
            pickle.unregister_pickle_by_value(module)
    return content


def _modules_not_installed() -> list[ModuleType]:
    """The modules of this process that belong to no installed distribution."""
    known = {*packages_distributions(), *sys.stdlib_module_names, "regraft", "__main__"}
    return [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and name.partition(".")[0] not in known and getattr(module, "__file__", None)
    ]
