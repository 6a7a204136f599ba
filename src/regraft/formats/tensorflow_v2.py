"""TensorFlow checkpoints of the V2 format: TF1's Saver and TF2's `tf.train.Checkpoint` and `save_weights`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import final

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.object_graph import GRAPH_KEY, path_of, unique_names, variable_names
from regraft.formats.sstable import is_table
from regraft.formats.tensor_bundle import Bundle
from regraft.roles import role_of

_PARTS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_CHOSEN = re.compile(r'^model_checkpoint_path:\s*"(?P<path>(?:[^"\\]|\\.)*)"', re.MULTILINE)
NOT_NUMBERS = ("string", "resource", "variant")


@final
class TensorFlowV2(Format):
    """`PREFIX.index` and its data files, named by prefix, by any of the files, or by their folder."""

    name = "tensorflow-v2"
    layout = "tensorflow"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether an index that is a TensorFlow table belongs to `path`."""
        try:
            return not (path / "saved_model.pb").exists() and bool(_prefixes(path))
        except OSError:
            return False

    def open(self, path: Path) -> Checkpoint:
        """The checkpoint; in a folder the one that its `checkpoint` file names, or the only one."""
        prefixes = _prefixes(path)
        if len(prefixes) > 1:
            listed = "\n".join(f"  {prefix}" for prefix in prefixes[:20])
            raise CheckpointError(
                f"{path} holds {len(prefixes)} TensorFlow checkpoints and no file `checkpoint` that chooses one:\n"
                f"{listed}\nOpen one of them by its prefix."
            )
        if not prefixes:
            raise CheckpointError(f"{path} is no TensorFlow checkpoint: there is no index file of its name.")
        return open_bundle(path, Bundle(prefixes[0]), self.name)


def open_bundle(path: Path, bundle: Bundle, name: str) -> Checkpoint:
    """The checkpoint over a bundle; a bundle with an object graph is shown under its variables' real names.

    name   the format's name, for a checkpoint without an object graph
    """
    numeric = [key for key, entry in bundle.entries.items() if entry.dtype not in NOT_NUMBERS]
    notes = []
    if GRAPH_KEY in bundle.entries:
        name = name if name != TensorFlowV2.name else "tensorflow-objects"
        names = variable_names(bundle.read_text(GRAPH_KEY))
        kept = _without_copies(numeric, names)
        if len(kept) < len(numeric):
            notes.append(
                f"{len(numeric) - len(kept)} arrays under _all_variables/ are left out: they are copies of those under "
                "variables/."
            )
        keys = unique_names(kept, names)
    else:
        keys = {key: key for key in numeric}
    skipped = [key for key, entry in bundle.entries.items() if entry.dtype in NOT_NUMBERS and key != GRAPH_KEY]
    if skipped:
        notes.append(f"{len(skipped)} entries hold no numbers and are left out: {_listed(skipped)}.")
    infos = {shown: _info(bundle, shown, key) for shown, key in keys.items()}
    return Checkpoint(
        path=path, format=name, layout="tensorflow", infos=infos, reader=lambda shown: bundle.read(keys[shown]),
        files=bundle.files, notes=tuple(notes),
    )  # fmt: skip


def _info(bundle: Bundle, shown: str, key: str) -> ArrayInfo:
    entry = bundle.entries[key]
    # Either the variable's own name or its path may tell that it belongs to the optimiser.
    roles = [role for role in (role_of(shown), role_of(path_of(key))) if role != "weight"]
    # Keras 3 with Checkpoint(model, optimizer) keeps the weights under the optimiser's list of what it trains.
    trained = re.search(r"(^|/)optimizer/_trainable_variables/\d+/", key) and shown == path_of(shown)
    role = "weight" if trained or not roles else roles[0]
    note = f"joined from {len(entry.slices)} slices" if entry.slices else ""
    return ArrayInfo(entry.shape, entry.dtype, role, note=note)


def _without_copies(keys: Sequence[str], names: dict[str, str]) -> list[str]:
    """Without Keras 3's second list of all variables, where the first one has each of the same name."""
    first = {names.get(key) for key in keys if not key.startswith("_all_variables/")} - {"", None}
    return [key for key in keys if not (key.startswith("_all_variables/") and names.get(key) in first)]


def _prefixes(path: Path) -> list[Path]:
    """The prefixes that `path` may mean: one for a prefix or a file; for a folder the chosen one, or all."""
    if path.is_dir():
        chosen = _chosen(path)
        if chosen is not None and is_table(Path(f"{chosen}.index")):
            return [chosen]
        return [index.with_suffix("") for index in sorted(path.glob("*.index")) if is_table(index)]
    prefix = Path(_PARTS.sub("", str(path)))
    return [prefix] if is_table(Path(f"{prefix}.index")) else []


def _chosen(folder: Path) -> Path | None:
    """The prefix that the folder's `checkpoint` file names. Its folder is ours: the checkpoint may have been moved."""
    try:
        text = (folder / "checkpoint").read_text(errors="replace")[:65536]
    except OSError:
        return None
    match = _CHOSEN.search(text)
    return folder / Path(match["path"]).name if match and Path(match["path"]).name else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names) - 5} more)" if len(names) > 5 else "")
