"""Images in files, decoded when they are asked for."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import PIL
import torch

from regraft.datasets.labelled import Labelled, check_labels
from regraft.errors import Advice, DataError
from regraft.foundation.files import sha256_of
from regraft.foundation.wording import counted
from regraft.inputs import InputContract


@final
class ImageFiles(Labelled):
    """Labelled image files under an input contract.

    paths            the files, one for each example
    labels           a class index for each
    ids              a stable name for each example, by default the path
    every_class      refuse a class without images, and data of one class; off for test data, which need not have all
    skip_unreadable  decode all once now and leave out the damaged ones, with a note that names them

    An unreadable file found later raises DataError that names all unreadable files at once.
    """

    are_images = True

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        classes: Sequence[str],
        contract: InputContract,
        *,
        ids: Sequence[str] | None = None,
        notes: Sequence[str] = (),
        every_class: bool = True,
        skip_unreadable: bool = False,
        where: str = "The image files",
    ) -> None:
        self.paths, self.contract = list(paths), contract
        self.classes, self.notes = tuple(classes), tuple(notes)
        self.labels = torch.tensor(list(labels), dtype=torch.int64)
        self.ids = tuple(ids) if ids is not None else tuple(str(path) for path in paths)
        if skip_unreadable:
            self._leave_out(set(self._unreadable()))
        if every_class:
            self._refuse_empty_classes(where)
        check_labels(self.labels, len(self.classes), where=where, several=every_class)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        try:
            array = self.contract.from_file(self.paths[index])
        except DataError as error:
            raise self._all_problems(error) from error
        return torch.from_numpy(array), int(self.labels[index])

    def content_ids(self, indices: Sequence[int] | None = None) -> list[str]:
        """Each file's SHA-256 with the input contract and the version of the decoder. Reads files, decodes none."""
        paths = self.paths if indices is None else [self.paths[index] for index in indices]
        how = json.dumps(self.contract.to_dict(), sort_keys=True) + f" Pillow {PIL.__version__}"
        with ThreadPoolExecutor() as pool:
            return [f"{content} {how}" for content in pool.map(self._content, paths)]

    def _content(self, path: Path) -> str:
        try:
            return sha256_of(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error

    def _unreadable(self) -> list[Path]:
        def is_unreadable(path: Path) -> bool:
            try:
                self.contract.from_file(path)
            except DataError:
                return True
            return False

        with ThreadPoolExecutor() as pool:
            return [path for path, bad in zip(self.paths, pool.map(is_unreadable, self.paths), strict=True) if bad]

    def _leave_out(self, bad: set[Path]) -> None:
        if not bad:
            return
        keep = [index for index, path in enumerate(self.paths) if path not in bad]
        self.notes += (f"{counted(len(bad), 'unreadable image')} skipped: " + ", ".join(sorted(map(str, bad))),)
        self.paths = [self.paths[index] for index in keep]
        self.ids = tuple(self.ids[index] for index in keep)
        self.labels = self.labels[keep]

    def _refuse_empty_classes(self, where: str) -> None:
        counts = torch.bincount(self.labels.clamp(min=0), minlength=len(self.classes))
        empty = [name for name, count in zip(self.classes, counts.tolist(), strict=False) if count == 0]
        if empty:
            raise DataError(
                f"{where}: no readable image of {len(empty)} of {len(self.classes)} classes: {', '.join(empty)}.\n"
                "Add images, or remove the class."
            )

    def _all_problems(self, first: DataError) -> DataError:
        """One error for all unreadable files: mending them one run at a time would waste hours."""
        bad = self._unreadable()
        if len(bad) < 2:
            return first
        named = "\n".join(f"  {path}" for path in bad[:20]) + (f"\n  … and {len(bad) - 20} more" if bad[20:] else "")
        return DataError(
            f"{len(bad)} of {len(self.paths)} files cannot be read as images:\n{named}\nRepair or remove them.",
            advice=[Advice("skip_unreadable", True, "go on without such files")],
        )
