"""One fold on several processes: each takes a part of every batch, and their gradients are averaged.

The processes are started by torchrun. Torch's own distributed training is used as it is: wrappers around it number GPUs
by process, but here a lock gives each process a GPU that no other fold holds (`device.pick_device`).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from buffycoat.core.errors import InputError


class Team:
    """The processes that train one fold; alone, every method does nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """Keep this process's number, 0 for the one that writes files, and how many there are."""
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        """Whether this process judges, logs and writes files."""
        return self.rank == 0

    def share(self) -> slice:
        """Return which images of a batch are this process's."""
        return slice(self.rank, None, self.size)

    def joined(self, network: nn.Module) -> nn.Module:
        """Return the network as one whose backward passes average the gradients of all processes."""
        return network if self.size == 1 else DistributedDataParallel(network)

    def apart(self, joined: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which the backward passes of `joined` add up gradients here alone."""
        if isinstance(joined, DistributedDataParallel):
            return joined.no_sync()
        return nullcontext()

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the processes' values."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def agree(self, number: int) -> int:
        """Return the largest of the processes' numbers: what one was asked to do, all do, at the same step."""
        if self.size == 1:
            return number
        values = torch.tensor([number])
        distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return int(values)


def launch_team(processes: int) -> None:
    """Replace this process by torchrun with as many that do the same; return where they run, or one is enough."""
    if processes == 1 or "WORLD_SIZE" in os.environ:
        return
    module = Path(sys.argv[0])
    if module.parent.name != "classify" or module.name != "train_fold.py":
        raise InputError("classify.train_fold.processes: more than one needs the command line, or torchrun")
    # Slurm warns by SIGUSR1; torchrun passes on the signals that it is told.
    options = f"--standalone --nproc-per-node {processes} --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
    launcher = [sys.executable, "-m", "torch.distributed.run", *options.split(), "-m", "buffycoat.classify.train_fold"]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    os.execv(sys.executable, [*launcher, *sys.argv[1:]])


@contextmanager
def started_team(device: torch.device, batch: int) -> Iterator[Team]:
    """Yield the team that torchrun has started, or a team of one; raises InputError on too many."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team()
        return
    if size > batch:
        raise InputError(f"classify.train_fold.processes: {size} processes cannot share a batch of {batch}")
    # Flags travel between CPUs even where gradients travel between GPUs.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    team = Team(distributed.get_rank(), size)
    if not team.leads:
        logging.getLogger("buffycoat").setLevel(logging.WARNING)
    try:
        yield team
    finally:
        distributed.destroy_process_group()
