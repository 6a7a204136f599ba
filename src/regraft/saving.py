"""Saves a trained model with its provenance, and loads it again."""

import inspect
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regraft.errors import JobError, PlanError, SaveError
from regraft.files import sha256_of, whole_folder
from regraft.inputs import InputContract
from regraft.jobs.factories import build_model, factory_file
from regraft.plan import Plan
from regraft.plans.adoption import adopt, adopted_by
from regraft.plans.rows import RequirementRow
from regraft.plans.rows_json import requirement_from_json, requirement_to_json

MODEL_FILE, RECORD_FILE, PLAN_FILE = "model.safetensors", "regraft.json", "plan.json"
RECORD_VERSION = 1


@dataclass(frozen=True)
class Factory:
    """How a model is built again: a SPEC, its arguments, and the folder that a `file.py:` SPEC starts from."""

    spec: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()


@dataclass(frozen=True)
class Saved:
    """What a saved folder tells beside the weights: the record in regraft.json."""

    folder: Path
    inputs: InputContract | None
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]
    record: Mapping[str, Any]


def save(
    model: nn.Module,
    folder: str | Path,
    *,
    plan: Plan | None = None,
    inputs: InputContract | None = None,
    classes: Sequence[str] | None = None,
    factory: Factory | None = None,
    overwrite: bool = False,
) -> None:
    """Write the model's folder: model.safetensors, regraft.json and, with a plan, plan.json. Whole or not at all.

    plan       where the arrays came from, for the provenance
    inputs     the input contract, so that `predict` prepares images as training did
    classes    the names of the outputs, in order
    factory    how to build the model again; without it, a class that can be built without arguments and then has
               the same arrays is found by itself, and any other model is loaded with `load(folder, model=...)`
    overwrite  replace a folder that exists

    Raises SaveError when the folder exists, or the model's state is not made of tensors alone.
    """
    with whole_folder(Path(folder), overwrite=overwrite) as part:
        write_model(model, part, plan=plan, inputs=inputs, classes=classes, factory=factory)


def write_model(
    model: nn.Module,
    folder: Path,
    *,
    plan: Plan | None = None,
    inputs: InputContract | None = None,
    classes: Sequence[str] | None = None,
    factory: Factory | None = None,
) -> None:
    """Write a model's files into a folder that exists: the part of `save` inside the whole-or-nothing folder."""
    state = plain_state(model)
    save_file(state, folder / MODEL_FILE, metadata={"format": "pt"})
    adopted = adopted_by(model)
    factory = factory or own_factory(model, adopted)
    source = factory_file(factory.spec, factory.folder) if factory else None
    if source is not None:
        shutil.copyfile(source, folder / source.name)
    record = {
        "record": RECORD_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": None if factory is None else _factory_record(factory, source),
        "inputs": inputs.to_dict() if inputs else None,
        "classes": list(classes) if classes is not None else None,
        "adopted": [requirement_to_json(row) for row in adopted],
        "frozen": [name for name, parameter in model.named_parameters() if not parameter.requires_grad],
        "provenance": provenance_of(state, plan),
        "sha256": sha256_of(folder / MODEL_FILE),
        "versions": versions(),
    }
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1))
    if plan is not None:
        (folder / PLAN_FILE).write_text(plan.to_json())


def load(folder: str | Path, *, model: nn.Module | None = None) -> nn.Module:
    """The saved model, in eval mode; nothing of it is frozen (regraft.json names what was).

    folder  as written by `save` or a run
    model   a module to load the arrays into, for models that have no factory; else one is built

    Raises SaveError when the folder is no saved model, is damaged, or does not fit the model.
    Builds the model by its recorded factory, which executes that code: load folders that you trust.
    """
    folder = Path(folder)
    saved = load_record(folder)
    weights = folder / MODEL_FILE
    if not weights.is_file() or sha256_of(weights) != saved.record.get("sha256"):
        state_of = "missing" if not weights.is_file() else "not the file that was saved: its sha256 differs"
        raise SaveError(f"{weights} is {state_of}. Restore it, or run the job again.")
    model = model if model is not None else _build(folder, saved.record)
    state = load_file(weights)
    with adopt(model, [requirement_from_json(row) for row in saved.record.get("adopted", ())]) as changes:
        problems = _misfits(model, state)
        if problems:
            raise SaveError(f"{folder} does not fit the model, which was left as it was:\n" + "\n".join(problems))
        model.load_state_dict(state)
        changes.pop_all()  # nothing failed: they stay
    return model.eval()


def load_record(folder: str | Path) -> Saved:
    """What the folder tells beside the weights. Raises SaveError when it is no saved model."""
    folder = Path(folder)
    path = folder / RECORD_FILE
    try:
        record = json.loads(path.read_text())
        inputs = TypeAdapter(InputContract).validate_python(record["inputs"]) if record["inputs"] else None
        return Saved(folder, inputs, tuple(record["classes"] or ()), record["provenance"], record)
    except FileNotFoundError as error:
        raise SaveError(f"{folder} is no saved model: it has no {RECORD_FILE}.") from error
    except (OSError, ValueError, KeyError, TypeError, JobError) as error:
        raise SaveError(f"{path} is damaged: {type(error).__name__}: {error}. Run the job again.") from error


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's state as contiguous tensors on the processor, each with memory of its own; ties are written out."""
    state = model.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise SaveError(
            f"The model's state holds what is no tensor: {', '.join(strange)}. model.safetensors holds tensors only; "
            "leave it out of get_extra_state()."
        )
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def provenance_of(names: Mapping[str, Tensor], plan: Plan | None) -> dict[str, Any]:
    """For each array of the model: the sources, the operations and the files it came from, or "initialised here"."""
    loaded = {row.target: row for row in plan.reused} if plan else {}
    arrays: dict[str, Any] = {}
    for name in names:
        row = loaded.get(name)
        if row is None:
            arrays[name] = {"origin": "initialised here"}
        else:
            arrays[name] = {
                "origin": "checkpoint",
                "sources": list(row.sources),
                "operations": [str(operation) for operation in row.operations],
                "status": row.status,
            }
    return {"files": file_hashes(plan) if plan else {}, "arrays": arrays}


def file_hashes(plan: Plan) -> dict[str, str]:
    """The checkpoint's file names with their SHA-256, "" for one that is no longer there."""
    return {
        file.name: file.sha256 or (sha256_of(Path(file.path)) if Path(file.path).is_file() else "")
        for file in plan.checkpoint.files
    }


def own_factory(model: nn.Module, adopted: Sequence[RequirementRow] = ()) -> Factory | None:
    """A factory for a model whose class, built without arguments, gives the same arrays; None when it does not.

    adopted   what a plan changed in the model since it was built
    """
    kind = type(model)
    if "<locals>" in kind.__qualname__ or kind.__module__ == "__main__" or kind.__module__.startswith("torch.nn"):
        return None
    required = [
        parameter
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        return None
    factory = Factory(f"{kind.__module__}:{kind.__qualname__}")
    random_state = torch.get_rng_state()
    try:
        twin = build_model(factory.spec)
        adopt(twin, adopted)
    except (JobError, PlanError, AttributeError):  # the class builds another model than this one
        return None
    finally:
        torch.set_rng_state(random_state)  # saving must not change what is drawn afterwards
    return factory if not _misfits(twin, plain_state(model)) else None


def versions() -> dict[str, str]:
    """Versions of Python, regraft, torch and NumPy."""
    found = {"python": platform.python_version()}
    for package in ("regraft", "torch", "numpy", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def _factory_record(factory: Factory, source: Path | None) -> dict[str, Any]:
    record: dict[str, Any] = {"factory": factory.spec, "args": dict(factory.arguments)}
    if source is not None:
        name = factory.spec.rpartition(":")[2]
        record.update(factory=f"{source.name}:{name}", original=str(source), sha256=sha256_of(source))
    return record


def _build(folder: Path, record: Mapping[str, Any]) -> nn.Module:
    built_by = record["model"]
    if built_by is None:
        raise SaveError(
            f"{folder} does not tell how to build its model. Build it yourself: load(folder, model=my_model), or "
            "save it with factory=Factory('package.module:factory')."
        )
    try:
        return build_model(built_by["factory"], built_by["args"], folder=folder)
    except JobError as error:
        raise SaveError(f"The model of {folder} cannot be built again. {error}") from error


def _misfits(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    own = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    lines = [f"  {name}: the model has it, the file has not" for name in own if name not in state]
    lines += [f"  {name}: the file has it, the model has not" for name in state if name not in own]
    lines += [
        f"  {name}: expected {tuple(own[name].shape)}, got {tuple(tensor.shape)}"
        for name, tensor in state.items()
        if name in own and own[name].shape != tensor.shape
    ]
    return lines
