"""One run in several processes, on one or more machines, started by ``torchrun``.

Each process computes its part of every batch; PyTorch's DistributedDataParallel averages the gradients during
the backward pass. Random numbers are drawn for whole batches, so any number of processes takes the
same steps, up to rounding. Small numbers and errors are exchanged over gloo, gradients on GPUs over NCCL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .errors import MlplibError

T = TypeVar("T")


class ReportedElsewhere(MlplibError):
    """An error that another process already reports."""


@dataclass(frozen=True)
class Processes:
    """The processes that share a run: this one is number ``rank`` of ``count``, from 0.

    All processes must call every method except :meth:`part`, in the same order.
    """

    rank: int = 0
    count: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is only one process."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def part(self, size: int) -> slice:
        """This process's part of a batch; ``count`` divides ``size``."""
        share = size // self.count
        return slice(None) if self.alone else slice(self.rank * share, (self.rank + 1) * share)

    def averaging(self, leaves: Sequence[nn.Parameter], loss: Callable) -> Callable:
        """``loss`` with a backward pass that averages the gradients of ``leaves`` over the processes."""
        return loss if self.alone else DistributedDataParallel(_Differentiated(leaves, loss))

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process."""
        return flag if self.alone else -self.smallest(-int(flag)) > 0

    def smallest(self, number: int) -> int:
        """The smallest ``number`` of any process."""
        if self.alone:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return int(found)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.alone:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def to_first(self, values: Tensor) -> Tensor:
        """The sum over the processes in the first one, zeros in the others."""
        total = self.sum(values)
        return total if self.first else torch.zeros_like(total)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.alone:
            return [value]
        found: list = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def together(self, do: Callable[[], T]) -> T:
        """The result of ``do`` in this process. ``do`` must not communicate with other processes.

        Raises:
            MlplibError: ``do`` failed in any process. The first process raises the error, the others
                :class:`ReportedElsewhere`, and all have left the process group.
        """
        if self.alone:
            return do()
        result, failure = None, None
        try:
            result = do()
        except MlplibError as error:
            failure = error
        for rank, error in enumerate(self.gather(failure)):
            if error is None:
                continue
            leave()  # otherwise the first process to exit would make the others abort
            if not self.first:
                raise ReportedElsewhere(str(error))
            raise error if rank == 0 else MlplibError(f"process {rank}: {error}")
        return result

    def from_first(self, do: Callable[[], T]) -> T:
        """The result of ``do`` in the first process, which alone calls it; errors as for :meth:`together`."""
        return self.gather(self.together(do if self.first else lambda: None))[0]


ALONE = Processes()


def join() -> Processes:
    """Wait for all processes that ``torchrun`` started and return them; :data:`ALONE` without torchrun.

    Raises:
        MlplibError: the environment variables that ``torchrun`` sets are wrong, or some are missing.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        local_rank, rank, count = (int(os.environ[name]) for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"))
        if not 0 <= local_rank <= rank < count:
            raise ValueError
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    except (ValueError, KeyError):
        raise MlplibError(
            "WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR or MASTER_PORT is not as torchrun sets it: start the "
            "processes with torchrun, or unset WORLD_SIZE"
        ) from None
    return Processes(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Leave the process group at the end of the work."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def lost_processes() -> Iterator[None]:
    """Raise an MlplibError if another process of the run has ended or does not respond."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        raise MlplibError(
            "another process of this run has ended: start it again, with any number of processes, to resume "
            "from the last checkpoint"
        ) from error


class _Differentiated(nn.Module):
    """The module for DistributedDataParallel: a loss and the parameters it is differentiated by.

    Wrapping the network would miss the bf16 copies of its weights (:class:`mlplib.step.WorkingCopies`).
    """

    def __init__(self, leaves: Sequence[nn.Parameter], loss: Callable):
        super().__init__()
        self.leaves, self.loss = nn.ParameterList(leaves), loss

    def forward(self, *batch):
        return self.loss(*batch)
