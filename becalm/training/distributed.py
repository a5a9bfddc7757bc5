"""Training on several processes with one copy of the model each, started by `torchrun`; one process is the ordinary case.

Process r of N takes the batches r, N + r, 2N + r, …, each of 1/N of the data that one process would take in a step.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from becalm.core.files import InputError
from becalm.core.tensor_files import checksum
from becalm.core.times import stratified
from becalm.core.typing import Float, Tensor

Value = TypeVar("Value")


def asked_processes() -> int:
    """The number of processes that whatever started this one has started, by its environment."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(size) if size.isdigit() else 1


def process_count() -> int:
    """The number N of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_number() -> int:
    """The number r of this process, from 0; the first one alone writes and prints."""
    return dist.get_rank() if process_count() > 1 else 0


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Context in which the processes that `torchrun` has started train together. Raises InputError where they cannot."""
    if asked_processes() == 1 or process_count() > 1:
        yield
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(f"WORLD_SIZE is {asked_processes()} but {missing[0]} is not set; {HOW_TO_START}")
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


HOW_TO_START = "start with `torchrun --nproc-per-node N -m -- becalm train RECIPE`, or unset WORLD_SIZE"
"""What to do where processes do not know of each other."""


def check_processes() -> None:
    """Raise InputError where there are several processes that would train without knowing of each other."""
    if asked_processes() != process_count():
        raise InputError(f"WORLD_SIZE is {asked_processes()}, but this process trains alone; {HOW_TO_START}")


def own_device(device: str) -> str:
    """The device of this process: of the GPUs of a machine each process takes one."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" and process_count() > 1 else device


def step_numbers(start: int) -> Iterator[int]:
    """The numbers of this process's batches from step `start` on: start · N + r, and every N-th after it."""
    number, count = start * process_count() + process_number(), process_count()
    while True:
        yield number
        number += count


def step_of(number: int) -> int:
    """The optimiser's step in which the batch of this number is taken."""
    return number // process_count()


def stratified_times(batch: int, seed: int, number: int) -> Float[Tensor, "batch 1 1"]:
    """Times of this process's batch `number`, evenly spaced over the N · B data that all processes take in its step.

    Datum k of process r has t = (u + (k N + r)/(N B)) mod 1, where u depends on the seed and the step only: together processes
    draw the times that one process draws.
    """
    count, generator = process_count(), torch.Generator()
    generator.manual_seed(1_000_003 * seed + step_of(number) + TIMES_SEED)
    return stratified(count * batch, 1, generator)[number % count :: count]


TIMES_SEED = 2**42
"""Keeps the numbers of `stratified_times` apart from those by which data are drawn."""


def from_first(value: Value) -> Value:
    """The value that the first process has, on every process."""
    if process_count() == 1:
        return value
    values = [value if process_number() == 0 else None]
    dist.broadcast_object_list(values)
    return values[0]  # type: ignore[return-value]


def mean_over_processes(terms: dict[str, float]) -> dict[str, float]:
    """The mean of each number over the processes that have it."""
    if process_count() == 1:
        return terms
    found: list[Any] = [None] * process_count()
    dist.all_gather_object(found, terms)
    every = {
        name: [part[name] for part in found if name in part] for name in dict.fromkeys(n for p in found for n in p)
    }
    return {name: sum(values) / len(values) for name, values in every.items()}


def gather_rows(values: Tensor) -> Tensor:
    """The numbers of all processes in one row, in the order of the processes; all have equally many."""
    own = values.detach().flatten()
    if process_count() == 1:
        return own
    parts = [torch.empty_like(own) for _ in range(process_count())]
    dist.all_gather(parts, own)
    return torch.cat(parts)


def check_copies(model: nn.Module, step: int) -> None:
    """Raise InputError where the processes' copies of the model are not the same to the last bit."""
    if process_count() == 1:
        return
    sums: list[Any] = [None] * process_count()
    own = {name: checksum({name: value.detach().cpu()}, {}) for name, value in model.state_dict().items()}
    dist.all_gather_object(sums, own)
    other = [name for name in own if any(part[name] != sums[0][name] for part in sums)]
    if other:
        raise InputError(
            f"step {step}: {other[0]}: differs between the processes; this recipe runs on one process only"
        )


def average_gradients(model: nn.Module) -> None:
    """Replace each gradient by its mean over the processes; one that no process has stays None.

    One all-reduce in a fixed order, so that a resumed run rounds as one that was not interrupted.
    """
    if process_count() == 1:
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    known = torch.tensor([p.grad is not None for p in trained], dtype=trained[0].dtype, device=trained[0].device)
    flat = torch.cat([known, *((torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained)])
    dist.all_reduce(flat)
    counts, *gradients = flat.split([len(trained), *(p.numel() for p in trained)])
    for parameter, count, gradient in zip(trained, counts.tolist(), gradients, strict=True):
        parameter.grad = gradient.view_as(parameter) / process_count() if count else None
