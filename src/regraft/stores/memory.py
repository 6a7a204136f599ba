"""Features in memory or on a device: gone with the process."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from regraft.errors import CacheError
from regraft.stores.shards import DTYPE_WORDS
from regraft.stores.store import Entry, Part, Store


@final
class MemoryEntry(Entry):
    """Parts as tensors on one device."""

    def __init__(self, key: str, device: torch.device) -> None:
        self.key, self.device = key, device
        self._held: dict[str, tuple[Part, dict[str, Tensor]]] = {}

    def parts(self) -> list[Part]:
        """The committed parts, ordered by name."""
        return [self._held[name][0] for name in sorted(self._held)]

    def commit(self, name: str, ids: np.ndarray, tensors: Mapping[str, Tensor]) -> Part:
        """Keep copies of the tensors on the device."""
        if name not in self._held:
            kept = {leaf: tensor.detach().to(self.device, copy=True) for leaf, tensor in tensors.items()}
            layouts = {leaf: (DTYPE_WORDS[tensor.dtype], tuple(tensor.shape)) for leaf, tensor in kept.items()}
            self._held[name] = (Part(name, ids.copy(), layouts), kept)
        return self._held[name][0]

    def read(self, part: Part, name: str, start: int, stop: int) -> Tensor:
        """A view of the rows."""
        return self._held[part.name][1][name][start:stop]

    def lease(self, name: str) -> bool:
        """Always: nobody else sees this memory."""
        return True

    def release(self, name: str) -> None:
        """Nothing to give back."""


@final
class MemoryStore(Store):
    """Keeps features for as long as the store object lives, so that several calls can share them.

    device  where: "cpu", "cuda" …
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._entries: dict[str, tuple[dict[str, Any], MemoryEntry]] = {}

    def entry(self, key: str, manifest: Mapping[str, object]) -> MemoryEntry:
        """The entry of this key."""
        known, entry = self._entries.setdefault(key, (dict(manifest), MemoryEntry(key, self.device)))
        if known != dict(manifest):
            raise CacheError(f"The store has an entry {key} with another manifest. Use another store.")
        return entry
