"""Several processes equal one: gradients, statistics, whole runs. How they start and end: test_torchrun.py."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from edgekp.errors import RecipeError
from edgekp.recipe import Data, Drawn
from edgekp.sample import Instance
from tests import tiny
from train import __main__ as command
from train.dataset import Pool
from train.distributed import DistributedWorld
from train.drawn import write_dataset
from train.loop import fit
from train.models import build, spec_of
from train.synced_batch_norm import SyncedBatchNorm2d
from train.task import Task
from train.world import World

CPU = torch.device("cpu")
RECIPE = tiny.recipe()
PATIENCE_S = 60.0

Job = Callable[[World], Any]


def in_processes(job: Job, folder: Path, size: int = 2) -> list[Any]:
    """What ``job`` gives in each of ``size`` processes that are joined by gloo; they are forks, which start at once."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [context.Process(target=_work, args=(job, folder / "meeting", rank, size, sender))
                 for rank, (_, sender) in enumerate(pipes)]
    for process, (_, sender) in zip(processes, pipes, strict=True):
        process.start()
        sender.close()  # so that the end of the process is the end of the pipe
    try:
        assert all(receiver.poll(PATIENCE_S) for receiver, _ in pipes), "a process gives no answer"
        answers = [receiver.recv() for receiver, _ in pipes]
        for process in processes:
            process.join(PATIENCE_S)
        return answers
    finally:
        for process in processes:
            process.kill()
            process.join()


def _work(job: Job, meeting: Path, rank: int, size: int, sender: Connection) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    sender.send(job(DistributedWorld(rank, size, CPU)))
    distributed.barrier()
    os._exit(0)


class TwoHeads(nn.Module):
    """A trunk with batch norm and a head for each of two tasks, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.heads = nn.ModuleList([nn.Conv2d(4, 2, 1), nn.Conv2d(4, 5, 1)])
        self.double()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.trunk(x)
        return self.heads[0](feature), self.heads[1](feature)


def net_and_batch(rows: int) -> tuple[TwoHeads, Tensor]:
    torch.manual_seed(0)
    net = TwoHeads()
    return net, torch.randn(rows, 3, 7, 6, dtype=torch.float64) * torch.linspace(0.5, 3, rows)[:, None, None, None] + 1


def tensors(net: nn.Module) -> dict[str, Tensor]:
    """Statistics and gradients, as plain copies that a pipe can carry."""
    gradients = {f"{name}.grad": parameter.grad for name, parameter in net.named_parameters()
                 if parameter.grad is not None}
    return {name: tensor.detach().clone() for name, tensor in (gradients | dict(net.named_buffers())).items()}


def learn_in_two_passes(world: World, rows: int, momentum: float | None = 0.1) -> dict[str, Any]:
    """Gradients of the losses of both heads in two passes, and of the input; the first pass is not synced."""
    net, batch = net_and_batch(rows)
    net.trunk[1].momentum = momentum
    mine = batch[world.rank::world.size].clone().requires_grad_()
    joined = world.joined(net)
    with world.unsynced(joined):
        one, other = joined(mine)
        ((one.square().sum() + other.sin().sum()) * world.size).backward()
    one, other = joined(mine)
    ((one.cos().sum() + other.square().sum()) * world.size).backward()
    return {name: tensor.numpy() for name, tensor in (tensors(net) | {"input.grad": mine.grad}).items()}


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("rows", "size"), [(6, 2), (7, 2), (7, 3)])
def test_gradients_and_statistics_are_those_of_one_process_with_the_whole_batch(
        tmp_path: Path, rows: int, size: int, momentum: float | None) -> None:
    expected = learn_in_two_passes(World(), rows, momentum)
    inputs = expected.pop("input.grad")
    assert {"heads.0.weight.grad", "heads.1.weight.grad", "trunk.1.running_var"} <= expected.keys()
    every = in_processes(lambda world: learn_in_two_passes(world, rows, momentum), tmp_path, size)
    for rank, found in enumerate(every):
        torch.testing.assert_close(found.pop("input.grad"), size * inputs[rank::size], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)  # sums of 294 float64 in another order


def net_of_plain_layers() -> nn.Module:
    torch.manual_seed(0)
    return build(spec_of(RECIPE)).train()


def test_the_network_stays_plain_and_shares_its_tensors_with_the_joined_one(tmp_path: Path) -> None:
    def job(world: World) -> tuple[bool, bool, set[str]]:
        net = net_of_plain_layers()
        names, joined = list(net.state_dict()), world.joined(net).module
        same = all(mine is theirs for mine, theirs in zip([*net.parameters(), *net.buffers()],
                                                          [*joined.parameters(), *joined.buffers()], strict=True))
        norms = {type(module).__name__ for module in net.modules() if isinstance(module, nn.BatchNorm2d)}
        return same, list(joined.state_dict()) == names == list(net.state_dict()), norms

    assert in_processes(job, tmp_path) == 2 * [(True, True, {"BatchNorm2d"})]


def test_torchs_own_conversion_for_gpus_shares_the_tensors_too() -> None:
    net = net_of_plain_layers()
    twin = DistributedWorld(0, 2, torch.device("cuda")).with_common_statistics(net)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in twin.modules())
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in net.modules())
    assert all(mine is theirs for mine, theirs in zip([*net.parameters(), *net.buffers()],
                                                      [*twin.parameters(), *twin.buffers()], strict=True))


def test_in_evaluation_mode_a_synced_batch_norm_is_a_plain_one() -> None:
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(SyncedBatchNorm2d(norm)(x), norm(x))


def test_batch_norm_in_bf16_keeps_its_statistics_in_float32(tmp_path: Path) -> None:
    x = 3 + torch.randn(8, 4, 6, 6).bfloat16()

    def job(world: World) -> tuple[torch.dtype, torch.dtype, float]:
        norm = nn.BatchNorm2d(4)
        mine = x[world.rank::world.size].requires_grad_()
        out = world.with_common_statistics(nn.Sequential(norm))(mine)
        out.sum().backward()
        return out.dtype, mine.grad.dtype, float((norm.running_mean - 0.1 * x.float().mean((0, 2, 3))).abs().max())

    for out, gradient, off in in_processes(job, tmp_path):
        assert out == gradient == torch.bfloat16
        assert off < 1e-6  # 288 terms around 3 in float32; in bfloat16 it would be off by 0.001


def test_what_processes_tell_each_other(tmp_path: Path) -> None:
    def job(world: World) -> tuple[Any, ...]:
        rows = [f"row {number}" for number in range(7)]
        return (world.is_first, world.gather(world.share(rows)) == rows, world.gather(world.share(rows[:1])),
                world.told(f"from {world.rank}"), world.sum(torch.tensor([world.rank + 1.0])).tolist(),
                world.any(world.rank == 1), world.any(False))

    told = in_processes(job, tmp_path, 3)
    assert told == [(rank == 0, True, ["row 0"], "from 0", [6.0], True, False) for rank in range(3)]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, ...]:
    return tiny.instances(tmp_path_factory.mktemp("people"), 24)


def whole_run(world: World, people: tuple[Instance, ...], state: Path | None = None,
              **train: Any) -> tuple[list[dict[str, float]], Any]:
    """History and weights of 6 steps on 16 people, examined on 7 others; goes on from ``state`` where there is one."""
    torch.manual_seed(0)
    settings = replace(RECIPE.train, epochs=3, lr=3e-4, validate_every=1, **train)
    task = Task("test", RECIPE.contract(), [Pool(people[:16])], [Pool(people[16:23])], settings, RECIPE.augment,
                state=state, resume=state is not None and state.exists())
    net, history = fit(build(spec_of(RECIPE)), task, CPU, world)
    assert not any(isinstance(module, SyncedBatchNorm2d) for module in net.modules())
    return history, {name: tensor.numpy() for name, tensor in net.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("train", [{}, {"workers": 1}, {"accumulate": 2}, {"average": "swa"}], ids=str)
def test_a_run_of_two_processes_is_the_run_of_one_with_the_same_batch(
        tmp_path: Path, people: tuple[Instance, ...], train: dict[str, Any]) -> None:
    """To rounding, which a batch in another order changes as much. There are 7 people to validate, none counted twice.

    The loss sums 35,000 squares in float32 by pairs: 16 roundings of 6e-8 each are 1e-6. With a batch norm of each
    process's own it would be off by 2e-5, the error by 7e-4 and the weights by 8e-3.
    """
    (history, weights), *others = [whole_run(World(), people, **train),
                                   *in_processes(lambda world: whole_run(world, people, **train), tmp_path)]
    assert len(history) == 3
    for found, their_weights in others:
        for entry, expected in zip(found, history, strict=True):
            assert entry["loss"] == pytest.approx(expected["loss"], rel=1e-6)
            assert entry == pytest.approx(expected, rel=1e-4)  # Adam blows up the rounding of gradients near 0
        gaps = [abs(their_weights[name].astype(float) - weights[name]).mean() for name in weights]
        assert max(gaps) < 1e-4
    (_, first), (_, second) = others
    assert equal(first, second)


def equal(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)


class Interrupted(DistributedWorld):
    """A world whose last process is asked to end after so many steps and ends of epochs."""

    def __init__(self, rank: int, size: int, after: int) -> None:
        super().__init__(rank, size, CPU)
        self.left = after

    def any(self, flag: bool) -> bool:
        self.left -= 1
        return super().any(flag or (self.left == 0 and self.rank == self.size - 1))


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 4], ids=["at the end of an epoch", "within an epoch"])
def test_a_resumed_run_of_two_processes_ends_with_the_very_weights_of_an_undisturbed_one(
        tmp_path: Path, people: tuple[Instance, ...], after: int) -> None:
    state = tmp_path / "state.safetensors"

    def job(world: World) -> tuple[bool, bool]:
        _, expected = whole_run(world, people)
        with pytest.raises(KeyboardInterrupt):
            whole_run(Interrupted(world.rank, world.size, after), people, state)
        saved = world.told(state.exists())  # now the first process has saved it
        history, found = whole_run(world, people, state)
        return saved and len(history) == 3, equal(found, expected)

    assert in_processes(job, tmp_path) == 2 * [(True, True)]


def test_a_batch_that_cannot_be_shared_evenly_is_refused(tmp_path: Path, people: tuple[Instance, ...]) -> None:
    def job(world: World) -> str:
        with pytest.raises(RecipeError) as refusal:
            whole_run(world, people, batch=10, accumulate=2)
        return str(refusal.value)

    message = in_processes(job, tmp_path)[1]
    assert "train.batch: 10, expected a multiple of 4" in message
    assert "processes: 2" in message


@pytest.mark.slow
def test_data_is_drawn_by_the_first_process_alone_before_any_reads_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Drawn("people", train=8, val=2)
    recipe = replace(RECIPE, data=Data("coco17", drawn=drawing), train=replace(RECIPE.train, epochs=1))
    monkeypatch.chdir(tmp_path)

    def job(world: World) -> tuple[int, bool]:
        drawn: list[Path] = []

        def draw(folder: Path, what: Drawn) -> None:
            drawn.append(folder)
            write_dataset(folder, what)

        monkeypatch.setattr(command, "write_dataset", draw)
        command.train(recipe, recipe.for_each_task(command.spec_that_fits), world, force=False, resume=False)
        return len(drawn), (recipe.run_folder / "data" / "train.json").is_file()

    assert in_processes(job, tmp_path) == [(1, True), (0, True)]
    assert sorted(path.name for path in recipe.run_folder.iterdir()) == ["data", "train"]
