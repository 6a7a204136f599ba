"""`hf:ID` and `timm:NAME` as files: in a local folder, or in the caches of the libraries that downloaded them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regraft.errors import CheckpointError

HF, TIMM = "hf:", "timm:"
# In the order in which a repository's files are preferred; an index lists shards beside it.
_WEIGHTS = (
    "model.safetensors.index.json", "model.safetensors", "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin", "adapter_model.bin",
)  # fmt: skip


def is_hub_name(path: str) -> bool:
    """Whether a path is `hf:…` or `timm:…`."""
    return path.startswith((HF, TIMM))


def hub_file(spec: str, folder: Path = Path()) -> Path:
    """The checkpoint that `hf:FOLDER`, `hf:ID`, `hf:ID@REVISION` or `timm:NAME` names. Nothing is downloaded.

    folder  that a relative FOLDER starts from

    Raises CheckpointError with the command that downloads it, where it is neither a folder nor in a cache.
    """
    name = spec.partition(":")[2]
    if spec.startswith(TIMM):
        return _of_timm(name)
    if (folder / name).is_dir():
        return (folder / name).resolve()
    repository, _, revision = name.partition("@")
    cached = _in_cache(repository, revision or None, _WEIGHTS)
    if cached is None:
        raise CheckpointError(
            f"{spec} is neither a folder nor in the local cache of Hugging Face. Nothing is downloaded here: run "
            f"hf download {repository}{f' --revision {revision}' if revision else ''}, or give the path of a folder."
        )
    return cached


def _of_timm(name: str) -> Path:
    try:
        import timm
    except ImportError as error:
        raise CheckpointError(f"{TIMM}{name} needs timm: pip install 'regraft[timm]'.") from error
    try:
        config: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except Exception as error:  # timm raises what it likes for a name that it does not know
        known = "timm.list_models(pretrained=True) lists them."
        raise CheckpointError(f"timm has no weights of the name {name}: {error}. {known}") from error
    cached = next((path for path in _places(config) if path is not None and path.is_file()), None)
    if cached is None:
        raise CheckpointError(
            f"The weights of {TIMM}{name} are not on this machine. Nothing is downloaded here: "
            f"timm.create_model({name!r}, pretrained=True) does it."
        )
    return cached


def _places(config: Any) -> Iterator[Path | None]:
    """Where timm keeps the weights of a model: a file of its own, Hugging Face's cache, torch's."""
    if config is None:
        return
    if config.file:
        yield Path(config.file)
    if config.hf_hub_id:
        repository, _, revision = config.hf_hub_id.partition("@")
        own = (config.hf_hub_filename,) if config.hf_hub_filename else ()
        yield _in_cache(repository, revision or None, (*own, *_WEIGHTS))
    if config.url:
        import torch

        yield Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name


def _in_cache(repository: str, revision: str | None, names: tuple[str, ...]) -> Path | None:
    """The first of these files that the cache of Hugging Face has."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise CheckpointError("Names of a hub need huggingface_hub: pip install 'regraft[hf]'.") from error
    try:
        found = (try_to_load_from_cache(repository, name, revision=revision) for name in names)
        return next((Path(path) for path in found if isinstance(path, str)), None)
    except HFValidationError as error:
        raise CheckpointError(f"{repository!r} is no id of a repository: {error}") from error
