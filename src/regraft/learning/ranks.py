"""The processes that train together (torch.distributed): what they sum, gather and compare."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from regraft.errors import Advice, TrainError
from regraft.foundation.wording import counted, listed

GivenGroup = Any  # a process group of torch.distributed, "alone", or None
DRIFT = 1e-3  # of a tensor's largest value: more than unlike processors round apart in an epoch
TRAIN_ALONE = Advice("group", "alone", "train each process by itself (an argument of Steps and Exact)")
T = TypeVar("T")


@final
@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    rank   its number, from 0
    count  of processes
    group  a process group of torch.distributed; None: the default one
    """

    rank: int = 0
    count: int = 1
    group: Any = None

    @property
    def are_several(self) -> bool:
        """Whether there are other processes."""
        return self.count > 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and calls callbacks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each of them."""
        total = values.detach().clone()
        if self.are_several:
            dist.all_reduce(total, group=self.group)
        return total

    def gathered(self, value: T) -> list[T]:
        """The value of each process, by rank; tensors on the CPU. Values must be picklable."""
        if not self.are_several:
            return [value]
        every: list[bytes] = [b""] * self.count
        dist.all_gather_object(every, _packed(value), group=self.group)
        return [_unpacked(content) for content in every]

    def from_first(self, value: T) -> T:
        """The value of rank 0; tensors on the CPU."""
        if not self.are_several:
            return value
        held = [_packed(value) if self.is_first else b""]
        dist.broadcast_object_list(held, src=self._first, group=self.group)
        first: T = _unpacked(held[0])
        return first

    def copy_from_first(self, values: Tensor) -> Tensor:
        """The values of rank 0, in place."""
        if self.are_several:
            dist.broadcast(values, self._first, group=self.group)
        return values

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.are_several:
            dist.barrier(group=self.group)

    def refuse_different(self, facts: Mapping[str, str]) -> None:
        """Raise TrainError, in every process, when the facts (name → text) are not the same in all of them."""
        every = self.gathered(dict(facts))
        names = dict.fromkeys(name for facts in every for name in facts)
        different = [name for name in names if len({facts.get(name) for facts in every}) > 1]
        if different:
            raise TrainError(
                f"The {counted(self.count, 'process/processes')} of the group would not train the same. These "
                f"differ: {listed(different, count=10)}.\nEach process needs the same model, options and whole data "
                "set: call torch.manual_seed before the model is built. train gives each process its part of every "
                "batch.",
                advice=[TRAIN_ALONE],
            )

    def align(self, tensors: Mapping[str, Tensor]) -> None:
        """Give each tensor the values of rank 0. Between unlike processors they may differ by rounding.

        Raises TrainError, in every process, for a tensor that differs by more.
        """
        if not self.are_several:
            return
        distances = [self._distance(tensor.detach()) for tensor in tensors.values()]
        worst = torch.stack(distances) if distances else torch.zeros(0)
        dist.all_reduce(worst, dist.ReduceOp.MAX, group=self.group)
        apart = [name for name, distance in zip(tensors, worst.tolist(), strict=True) if not distance <= DRIFT]
        if apart:
            raise TrainError(
                f"After an epoch these tensors differ between the processes of the group: {listed(apart, count=10)}.\n"
                "A layer that keeps state of the examples that it has seen, as BatchNorm does, sees only a part of "
                "each batch in each process. Freeze it or replace it.",
                advice=[TRAIN_ALONE],
            )

    def _distance(self, tensor: Tensor) -> Tensor:
        """How far the tensor was from that of rank 0, whose values it takes: a part of the largest one."""
        first = self.copy_from_first(tensor.clone())
        apart = (tensor.double() - first.double()).abs().max() if tensor.numel() else torch.zeros(())
        tensor.copy_(first)
        largest = first.double().abs().max() if tensor.numel() else torch.ones(())
        return (apart / largest.clamp_min(1e-30)).float().to(tensor.device)

    @property
    def _first(self) -> int:
        """Rank 0 of the group, as torch.distributed counts all processes."""
        return 0 if self.group is None else dist.get_global_rank(self.group, 0)


ALONE = Ranks()


def ranks_of(group: GivenGroup) -> Ranks:
    """This process in the group; of None in the default group, where torch.distributed is initialised.

    Raises TrainError in a process that is not of the group.
    """
    if group == "alone" or not (dist.is_available() and dist.is_initialized()):
        return ALONE
    rank, count = dist.get_rank(group), dist.get_world_size(group)
    if rank < 0:
        raise TrainError("This process does not belong to the group that it was given to train in.")
    return Ranks(rank, count, group) if count > 1 else ALONE


def _packed(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpacked(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)  # it comes from our own processes
