"""Saves a trained model with its provenance, and loads it again."""

import inspect
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regraft import __version__
from regraft.building import CLASS, model_of_source, source_of
from regraft.contracts.preparation import Preparation
from regraft.contracts.text import TextContract, save_tokenizer
from regraft.datasets.labelled import UNDECIDED, Target
from regraft.errors import JobError, PlanError, SaveError
from regraft.foundation.files import all_entries, sha256_of, utf8, whole_folder
from regraft.inputs import InputContract
from regraft.jobs.factories import factory_file, model_by_spec, transformers_config
from regraft.jobs.neighbours import neighbours_of
from regraft.jobs.planned import FROM_CHECKPOINT
from regraft.layer_heads import HeadOnLayers, body_of
from regraft.learning.request import remembered
from regraft.model_record import HF_CONFIG, RECORD_FILE, Factory, FactoryRecord, ModelRecord, read_record
from regraft.plan import FileIdentity, Plan
from regraft.plans.adoption import adopt, adopted_by
from regraft.plans.rows import RequirementRow, Row
from regraft.plans.rows_json import requirement_to_json
from regraft.tensors.keeping import kept_generators

__all__ = ["Factory", "ModelRecord", "load", "read_record", "save"]

MODEL_FILE, PLAN_FILE = "model.safetensors", "plan.json"
TOKENIZER = "tokenizer"  # the folder of a text contract's tokenizer
REPORT_FILE, METRICS_FILE, ANSWERS_FILE = "report.html", "metrics.json", "answers.csv"  # of a run of a whole job
NETWORK_FILE = "net.py"  # the source of a network that was built from its file
OWN_FILES = {MODEL_FILE, RECORD_FILE, PLAN_FILE, REPORT_FILE, METRICS_FILE, ANSWERS_FILE, "epochs.csv"}
OWN_FOLDER = "tensorboard/"  # of the curves that a job may log


def save(
    model: nn.Module,
    folder: str | Path,
    *,
    plan: Plan | None = None,
    inputs: InputContract | Preparation | None = None,
    classes: Sequence[str] | None = None,
    factory: Factory | None = None,
    outputs: Literal["classes"] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the model's folder: model.safetensors, regraft.json and, with a plan, plan.json. Whole or not at all.

    plan       where the arrays came from, for the provenance
    inputs     the input contract of images, or a `Preparation` for texts, sounds, numbers or several of them, so that
               `predict` prepares inputs as training did. A tokenizer is copied into the folder
    classes    the names of the outputs, in order
    factory    how to build the model again; without it, a class that can be built without arguments and then has
               the same arrays is found by itself, and any other model is loaded with `load(folder, model=...)`
    outputs    "classes" says that the outputs are scores of classes of which one applies; `predict` asks for it after
               training with a loss of your own
    overwrite  replace a saved model or a run; a folder that holds anything else is never replaced

    Raises SaveError when the folder exists and may not be replaced, or the model's state is not made of tensors alone.
    """
    with whole_folder(Path(folder), overwrite=overwrite, foreign=foreign_entries) as part:
        write_model(model, part, plan=plan, inputs=inputs, classes=classes, factory=factory, outputs=outputs)


def write_model(
    model: nn.Module,
    folder: Path,
    *,
    plan: Plan | None = None,
    inputs: InputContract | Preparation | None = None,
    classes: Sequence[str] | None = None,
    factory: Factory | None = None,
    outputs: Literal["classes"] | None = None,
    target: Target = UNDECIDED,
) -> None:
    """Write a model's files into a folder that exists: the part of `save` inside the whole-or-nothing folder.

    target  what the labels were that it was trained on
    """
    prepared = inputs if isinstance(inputs, Preparation) else Preparation(inputs)
    state = plain_state(model)
    save_file(state, folder / MODEL_FILE, metadata={"format": "pt"})
    adopted, body = adopted_by(model), body_of(model)
    record = ModelRecord(
        sha256=sha256_of(folder / MODEL_FILE),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=_factory_record(body, factory, folder),
        inputs=prepared.image,
        text=prepared.text and replace(prepared.text, tokenizer=TOKENIZER),
        sound=prepared.sound,
        numbers=prepared.numbers,
        arguments=dict(prepared.arguments),
        tokenizer=_copy_tokenizer(prepared.text, folder),
        classes=None if classes is None else tuple(classes),
        task=target.task,
        columns=target.columns,
        separator=target.separator,
        mask_values=target.mask_values,
        parts=target.parts,
        adopted=tuple(requirement_to_json(row) for row in adopted),
        outputs=outputs or _outputs_of(model),
        frozen=tuple(name for name, parameter in model.named_parameters() if not parameter.requires_grad),
        head=model.settings() if isinstance(model, HeadOnLayers) else None,
        provenance=provenance_of(state, plan, prefix="trunk.body." if body is not model else ""),
        versions=versions(),
    )
    (folder / RECORD_FILE).write_bytes(utf8(json.dumps(asdict(record), indent=1)))
    # safetensors makes its file readable by its owner alone; the others follow the umask.
    shutil.copymode(folder / RECORD_FILE, folder / MODEL_FILE)
    if plan is not None:
        (folder / PLAN_FILE).write_bytes(utf8(plan.to_json()))


def _outputs_of(model: nn.Module) -> str | None:
    """What the loss by which the model was trained here makes of its outputs."""
    trained = remembered(model)
    if trained is None:
        return None
    is_one_class = trained.task is not None and trained.task.name == "classification"
    return "classes" if is_one_class and trained.loss_name == "cross_entropy" else trained.loss_name


def load(folder: str | Path, *, model: nn.Module | None = None) -> nn.Module:
    """The saved model, in eval mode; nothing of it is frozen (regraft.json names what was).

    folder  as written by `save` or a run
    model   a module to load the arrays into; else one is built by the recorded factory

    Raises SaveError when the folder is not a saved model, its weights or its factory's files were changed, or it does
    not fit the model. Building the model executes the recorded factory, a file in the folder for instance: load folders
    that you trust, or pass `model`, which executes nothing of the folder.
    """
    folder = Path(folder)
    record = read_record(folder)
    _refuse_changed(folder, {MODEL_FILE: record.sha256})
    model = model if model is not None else _build(folder, record)
    if record.head is not None and not isinstance(model, HeadOnLayers):
        model = _with_head(folder, model, record.head)
    state = _read_state(folder / MODEL_FILE)
    with adopt(model, record.requirements) as changes:
        problems = _misfits(model, state)
        if problems:
            raise SaveError(f"{folder} does not fit the model, which was left as it was:\n" + "\n".join(problems))
        model.load_state_dict(state)
        changes.pop_all()  # nothing failed: they stay
    return model.eval()


def _read_state(path: Path) -> dict[str, Tensor]:
    """The saved arrays; safetensors opens no path that is not valid UTF-8, so such a file is read first."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return load_bytes(path.read_bytes())
    return load_file(path)


def foreign_entries(folder: Path) -> list[str]:
    """What a folder holds that no saved model or run has; all of it for a folder that is neither."""
    try:
        record = read_record(folder)
    except SaveError:
        return all_entries(folder)
    own = OWN_FILES | set(record.model.files if record.model else ()) | set(record.tokenizer)
    others = [name for name in _files_in(folder) if name not in own and "__pycache__" not in name.split("/")]
    return [name for name in others if not name.startswith(OWN_FOLDER)]


def _files_in(folder: Path) -> list[str]:
    """The files at any depth, links to folders among them."""
    files = [entry for entry in folder.rglob("*") if entry.is_symlink() or not entry.is_dir()]
    return sorted(file.relative_to(folder).as_posix() for file in files)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's state as contiguous tensors on the processor, each with memory of its own; ties are written out."""
    state = model.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise SaveError(
            f"The model's state holds values that are not tensors: {', '.join(others)}. model.safetensors holds only "
            "tensors; leave the others out of get_extra_state()."
        )
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def provenance_of(names: Mapping[str, Tensor], plan: Plan | None, *, prefix: str = "") -> dict[str, Any]:
    """For each array of the model: the sources, the operations and the files it came from, or "initialised here".

    prefix  before the plan's names
    """
    loaded = {f"{prefix}{row.target}": row for row in plan.reused} if plan else {}
    return {
        "files": file_hashes(plan) if plan else {},
        "arrays": {name: _origin_of(loaded.get(name)) for name in names},
    }


def _origin_of(row: Row | None) -> dict[str, Any]:
    if row is None:
        return {"origin": "initialised here"}
    operations = [str(operation) for operation in row.operations]
    return {"origin": "checkpoint", "sources": list(row.sources), "operations": operations, "status": row.status}


def file_hashes(plan: Plan) -> dict[str, str]:
    """The checkpoint's file names with their SHA-256, "" for one that is gone or has changed since the plan."""
    return {file.name: file.sha256 or _hash_of(file) for file in plan.checkpoint.files}


def _hash_of(file: FileIdentity) -> str:
    path = Path(file.path)
    if not path.is_file():
        return ""
    status = path.stat()
    is_same = status.st_size == file.size_bytes and file.modified_ns in (0, status.st_mtime_ns)
    return sha256_of(path) if is_same else ""


def own_factory(model: nn.Module, adopted: Sequence[RequirementRow] = ()) -> Factory | None:
    """A factory for a model whose class, built without arguments, gives the same arrays; None when it does not.

    adopted   what a plan changed in the model since it was built
    """
    kind = type(model)
    if "<locals>" in kind.__qualname__ or kind.__module__ == "__main__" or kind.__module__.startswith("torch.nn"):
        return None
    if any(_is_required(parameter) for parameter in inspect.signature(kind).parameters.values()):
        return None
    factory = Factory(f"{kind.__module__}:{kind.__qualname__}")
    with kept_generators():  # saving must not change what is drawn afterwards
        try:
            twin = model_by_spec(factory.spec)
            adopt(twin, adopted)
        except (JobError, PlanError, AttributeError):  # the class builds another model than this one
            return None
    return None if _misfits(twin, plain_state(model)) else factory


def _is_required(parameter: inspect.Parameter) -> bool:
    several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not several


def versions() -> dict[str, str]:
    """Versions of Python, regraft, torch and NumPy."""
    known = {"python": platform.python_version(), "regraft": __version__}
    for package in ("torch", "numpy", "safetensors"):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "not installed as a package"
    return known


def _copy_tokenizer(contract: TextContract | None, folder: Path) -> dict[str, str]:
    """Save the tokenizer in the model's folder; its files there with their SHA-256."""
    if contract is None:
        return {}
    save_tokenizer(contract, folder / TOKENIZER)
    files = sorted(path for path in (folder / TOKENIZER).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _factory_record(model: nn.Module, factory: Factory | None, folder: Path) -> FactoryRecord | None:
    """How the model is built again, with its code in the folder; the source of a network built from its file."""
    text = source_of(model)
    if text is not None and (factory is None or factory.spec == FROM_CHECKPOINT):
        if _misfits(model_of_source(text), plain_state(model)):
            return None
        (folder / NETWORK_FILE).write_bytes(utf8(text))
        return FactoryRecord(f"{NETWORK_FILE}:{CLASS}", sha256=sha256_of(folder / NETWORK_FILE))
    factory = factory or own_factory(model, adopted_by(model))
    return _copy_factory(factory, folder) if factory else None


def _copy_factory(factory: Factory, folder: Path) -> FactoryRecord:
    """Copy the factory's file and the modules beside it that it imports; record their hashes."""
    config = transformers_config(factory.spec, factory.folder)
    if config is not None:
        shutil.copyfile(config, folder / HF_CONFIG)
        digest = sha256_of(folder / HF_CONFIG)
        return FactoryRecord("hf:.", dict(factory.arguments), original=str(config), sha256=digest)
    source = factory_file(factory.spec, factory.folder)
    if source is None:
        return FactoryRecord(factory.spec, dict(factory.arguments))
    modules = [file.relative_to(source.parent) for file in neighbours_of(source).values()]
    for file in (Path(source.name), *modules):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / file, folder / file)
    return FactoryRecord(
        f"{source.name}:{factory.spec.rpartition(':')[2]}",
        dict(factory.arguments),
        original=str(source),
        sha256=sha256_of(folder / source.name),
        modules={file.as_posix(): sha256_of(folder / file) for file in modules},
    )


def _build(folder: Path, record: ModelRecord) -> nn.Module:
    if record.model is None:
        raise SaveError(
            f"{folder} does not record how to build its model. Build it yourself: load(folder, model=my_model). "
            'Or save it with factory=Factory("package.module:factory").'
        )
    _refuse_changed(folder, record.model.files)
    try:
        return model_by_spec(record.model.factory, record.model.args, folder=folder)
    except JobError as error:
        raise SaveError(f"The model of {folder} cannot be built again. {error}") from error


def _with_head(folder: Path, body: nn.Module, settings: Mapping[str, object]) -> HeadOnLayers:
    """The body with the recorded head on several of its layers."""
    try:
        return HeadOnLayers.from_settings(body, settings)
    except (KeyError, TypeError, ValueError) as error:
        raise SaveError(f"{folder / RECORD_FILE} is damaged: head: {type(error).__name__}: {error}.") from error


def _refuse_changed(folder: Path, digests: Mapping[str, str]) -> None:
    """Raise SaveError for files that are missing or have changed since they were saved."""
    for name, digest in digests.items():
        changed = "missing" if not (folder / name).is_file() else "not the file that was saved: its SHA-256 differs"
        if changed == "missing" or sha256_of(folder / name) != digest:
            other = "" if name == MODEL_FILE else " To use another network: load(folder, model=my_model)."
            raise SaveError(f"{folder / name} is {changed}. Restore it, or run the job again.{other}")


def _misfits(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """A line for each array that only one side has, or that has another shape."""
    own = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    return [*_missing(own, state, "the file"), *_missing(state, own, "the model"), *_misshapen(own, state)]


def _missing(names: Mapping[str, Tensor], others: Mapping[str, Tensor], where: str) -> Iterator[str]:
    """A line for each name that `others` lacks."""
    return (f"  {name}: {where} does not have it" for name in names if name not in others)


def _misshapen(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterator[str]:
    for name in own:
        if name in state and own[name].shape != state[name].shape:
            yield f"  {name}: expected {tuple(own[name].shape)}, got {tuple(state[name].shape)}"
