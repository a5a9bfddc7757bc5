"""Matrix products in bfloat16 where the processor has them in hardware, float32 elsewhere."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

Item = TypeVar("Item")


def fast_matmul(device: str) -> AbstractContextManager:
    """A context in which networks multiply in bfloat16 if that is fast here: any GPU, a CPU with AMX or AVX512-BF16."""
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or _cpu_has_bfloat16())


def inference_iter(items: Iterator[Item]) -> Iterator[Item]:
    """The items of a generator, each made without gradients and with fast products; whoever takes them is left alone."""
    while True:
        with torch.inference_mode(), fast_matmul("cpu"):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _cpu_has_bfloat16() -> bool:
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)
