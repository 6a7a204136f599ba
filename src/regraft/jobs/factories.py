"""Builds models from a SPEC: `timm:NAME`, `torchvision:NAME`, `hf:FOLDER`, `package.module:name`, `file.py:name`."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from regraft.errors import JobError
from regraft.foundation.wording import near_names
from regraft.jobs.neighbours import importable

HF = "hf:"  # a folder that transformers' from_pretrained loads, or the id of a model in its cache


def model_by_spec(spec: str, arguments: Mapping[str, object] | None = None, *, folder: Path | None = None) -> nn.Module:
    """A new model with its own initial weights; nothing is downloaded.

    spec       where the factory is, as above; a file is relative to `folder`
    arguments  given to the factory by name
    folder     the job file's folder; by default the current one

    Raises JobError that names the spec when there is no such factory, it fails, or it gives no torch module.
    Executes the factory's code: use files that you trust.
    """
    factory = find_factory(spec, folder or Path())
    try:
        model = factory(**(arguments or {}))
    except Exception as error:
        raise JobError(
            f"The factory {spec} failed with {dict(arguments or {})}: {type(error).__name__}: {error}\n"
            "Give its arguments as model.args in the job, or --model-args '{…}'."
        ) from error
    if not isinstance(model, nn.Module):
        raise JobError(f"The factory {spec} gave a {type(model).__name__}; expected a torch.nn.Module.")
    return model


def find_factory(spec: str, folder: Path) -> Callable[..., Any]:
    """The callable that a SPEC names. Raises JobError with near names."""
    home, colon, name = spec.rpartition(":")
    if not colon or not home or not name:
        raise JobError(
            f"{spec!r} does not name a factory. Expected timm:NAME, torchvision:NAME, hf:FOLDER, "
            "package.module:factory or file.py:factory."
        )
    if home == "timm":
        create = _attribute(spec, _import(spec, "timm"), "create_model")
        return lambda **arguments: create(name, pretrained=False, **arguments)
    if spec.startswith(HF):
        return partial(_of_transformers, spec, folder)
    if home == "torchvision":
        return _attribute(spec, _import(spec, "torchvision.models"), name)
    if home.endswith(".py"):
        return _attribute(spec, _load_file(spec, (folder / home).resolve()), name)
    return _attribute(spec, _import(spec, home), name)


def _of_transformers(spec: str, folder: Path, **arguments: object) -> nn.Module:
    """The model of a `from_pretrained` folder or of an id in the local cache, with new weights; no code is loaded."""
    transformers: Any = _import(spec, "transformers")
    config_file = transformers_config(spec, folder)
    place = str(config_file.parent) if config_file else spec.removeprefix(HF)
    config = transformers.AutoConfig.from_pretrained(place, local_files_only=True)
    unknown = [name for name in arguments if not hasattr(config, name)]
    if unknown:  # a config takes any name, and a model ignores those that it does not know
        raise TypeError(f"{type(config).__name__} has no setting {', '.join(unknown)}")
    if not config.architectures:
        raise JobError(f"The config of {spec} names no class under architectures.")
    for name, value in arguments.items():
        setattr(config, name, value)
    kind = _attribute(spec, transformers, config.architectures[0])
    model: nn.Module = kind(config)
    return model


def transformers_config(spec: str, folder: Path) -> Path | None:
    """The config.json of a `hf:FOLDER` SPEC; None for a hub id and for other SPECs."""
    path = folder / spec.removeprefix(HF) / "config.json"
    return path.resolve() if spec.startswith(HF) and path.is_file() else None


def factory_file(spec: str, folder: Path) -> Path | None:
    """The Python file of a `file.py:factory` SPEC, else None."""
    home = spec.rpartition(":")[0]
    return (folder / home).resolve() if home.endswith(".py") else None


def _import(spec: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except Exception as error:  # parts of an installation that do not fit each other raise what they like
        reason = f"{type(error).__name__}: {error}"
        raise JobError(
            f"The module of {spec} cannot be imported: {reason}. Install it, or correct the name."
        ) from error


def _load_file(spec: str, path: Path) -> ModuleType:
    if not path.is_file():
        beside = [entry.name for entry in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise JobError(f"The file of {spec} does not exist: {path}. {near_names(path.name, beside)}")
    module_spec = importlib.util.spec_from_file_location(_module_name(path), path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    try:
        with importable(path):
            module_spec.loader.exec_module(module)
    except Exception as error:
        raise JobError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _module_name(path: Path) -> str:
    """The same name in every process: the key of cached features holds it. Another file of that name gets another."""
    name = f"regraft_factory_{path.stem}"
    if getattr(sys.modules.get(name), "__file__", str(path)) != str(path):
        name += f"_{sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    return name


def _attribute(spec: str, module: ModuleType, name: str) -> Callable[..., Any]:
    factory: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(factory):
        names = [entry for entry in dir(module) if not entry.startswith("_") and callable(getattr(module, entry))]
        raise JobError(f"{spec}: there is no factory {name!r}. {near_names(name, names)}")
    return factory
