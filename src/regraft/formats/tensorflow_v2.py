"""TensorFlow checkpoints of the V2 format: TF1's Saver and TF2's `tf.train.Checkpoint` and `save_weights`."""

import re
from pathlib import Path
from typing import final

from regraft.arrays import Checkpoint
from regraft.containers.sstable import is_table
from regraft.errors import CheckpointError
from regraft.formats.bundle_checkpoint import open_bundle
from regraft.formats.format import Format
from regraft.formats.tensor_bundle import Bundle

_PARTS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_CHOSEN = re.compile(r'^model_checkpoint_path:\s*"(?P<path>(?:[^"\\]|\\.)*)"', re.MULTILINE)


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
            raise CheckpointError(f"{path} is not a TensorFlow checkpoint: there is no index file of this name.")
        return open_bundle(path, Bundle(prefixes[0]), self.name, program=Path(f"{prefixes[0]}.meta"))


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
