"""Training in the processes that ``torchrun`` starts: how they find each other, work together and end together.

Knows nothing of recipes: whoever trains asks a ``World``.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from edgekp.errors import EdgekpError, TrainingError
from edgekp.stage import Key, run_stage
from train.synced_batch_norm import SyncedBatchNorm2d
from train.world import World, interleaved

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)  # of the others while the first draws data; who ends is noticed at once
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # what torchrun tells each process
SPOKEN = "edgekp/spoken"  # in the store that all processes share: how many wanted to say why they ended


class DistributedWorld(World):
    """Several processes, joined by gloo on CPUs and by NCCL on GPUs, one GPU a process."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

    def sum(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        distributed.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        return bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def gather(self, rows: list[T]) -> list[T]:
        shares: list[list[T]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(shares, rows)
        return interleaved(shares)

    def told(self, value: T) -> T:
        said = [value]
        distributed.broadcast_object_list(said, src=0, device=self.device)
        return said[0]

    def with_common_statistics(self, net: nn.Module) -> nn.Module:
        tensors = [*net.parameters(), *net.buffers()]
        twin = copy.deepcopy(net, {id(tensor): tensor for tensor in tensors})  # modules are copied, tensors are not
        if self.device.type == "cuda":
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(twin)  # type: ignore[no-untyped-call]
            return converted
        for name, module in list(twin.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                parent, _, child = name.rpartition(".")
                setattr(twin.get_submodule(parent), child, SyncedBatchNorm2d(module))
        return twin

    def joined(self, net: nn.Module) -> nn.Module:
        return DistributedDataParallel(self.with_common_statistics(net), forward_sync_buffers=False,
                                       gradient_as_bucket_view=True)

    def unsynced(self, joined: nn.Module) -> AbstractContextManager[None]:
        assert isinstance(joined, DistributedDataParallel)
        return joined.no_sync()


@contextmanager
def launched_world() -> Iterator[World]:
    """The world that ``torchrun`` started, or the world of one process without it.

    Within the block only the first process writes to stderr. An error in one process ends all: the first one to fail
    raises it, the others end without a word.

    Raises:
        TrainingError: More processes than GPUs, or another process is gone without having said why.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    world = _join(os.environ)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(sys.stderr if world.is_first else nowhere):
            yield world
    except BaseException as error:
        if not _may_speak(world, error):
            _end(_exit_code(error))
        if _is_lost_connection(error):
            raise TrainingError(f"process {world.rank} of {world.size} lost another one ({_first_line(error)}); the "
                                "launcher's report says which ended first, and how") from error
        raise


def run_stage_together(world: World, folder: Path, key: Key, work: Callable[[Path | None], None], *,
                       force: bool = False) -> bool:
    """``run_stage``, where the first process decides and writes; in the others ``work`` is given no folder.

    True in the first process if ``work`` was done.
    """
    def begin(scratch: Path) -> None:
        world.told(True)
        work(scratch)

    if world.is_first:
        has_run = run_stage(folder, key, begin, force=force)
        if not has_run:
            world.told(False)
        return has_run
    if world.told(False):
        work(None)
    return False


def leave(code: int) -> NoReturn:
    """``sys.exit``; where processes were joined, without Python's last steps, in which gloo's threads may abort."""
    if distributed.is_initialized():
        _end(code)
    sys.exit(code)


def _join(environment: Mapping[str, str]) -> DistributedWorld:
    """This process's place among those that were started with it."""
    missing = [name for name in LAUNCHED if name not in environment]
    if missing:
        raise TrainingError(f"WORLD_SIZE is set and {' and '.join(missing)} is not; start several processes with "
                            "torchrun, or unset WORLD_SIZE")
    rank, size, local_rank = (int(environment[name]) for name in LAUNCHED)
    if not torch.cuda.is_available():
        distributed.init_process_group("gloo", timeout=PATIENCE)
        return DistributedWorld(rank, size, torch.device("cpu"))
    if local_rank >= torch.cuda.device_count():
        raise TrainingError(f"process {local_rank + 1} of this machine has no GPU, there are "
                            f"{torch.cuda.device_count()}; lower torchrun's --nproc-per-node")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)  # so that "cuda" is this GPU
    distributed.init_process_group("nccl", timeout=PATIENCE, device_id=device)
    return DistributedWorld(rank, size, device)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM, which the launcher sends to the processes that are left, ends a process as Ctrl-C does."""
    raise KeyboardInterrupt


def _may_speak(world: World, error: BaseException) -> bool:
    """Whether this process says why all end: one does, the first to fail; of an interruption, the first process."""
    if isinstance(error, KeyboardInterrupt) and not world.is_first:
        return False
    store = distributed.distributed_c10d._get_default_store()
    try:
        return store.add(SPOKEN, 1) == 1
    except distributed.DistError:  # the launcher, which keeps the store, is gone
        return True


def _is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "peer" in str(error))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _exit_code(error: BaseException) -> int:
    """As ``edgekp.cli.run`` has it."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, (EdgekpError, OSError, MemoryError)) or _is_lost_connection(error) else 1


def _end(code: int) -> NoReturn:
    """Ends this process at once: gloo on torch 2.13 aborts in about a tenth of ordinary exits, after all is done."""
    if code == 0:  # after an error others may never come to a last meeting
        distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
