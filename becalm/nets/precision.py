"""Matrix products in bfloat16 where the hardware supports them, float32 elsewhere; inference without gradients."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeVar

import torch

Item = TypeVar("Item")


def fast_matmul(device: str) -> AbstractContextManager:
    """Autocast context: bfloat16 products on any GPU and on CPUs with AMX or AVX512-BF16, float32 on others."""
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or _cpu_has_bfloat16())


def inference_iter(items: Iterator[Item], products: Literal["fast", "float32"] = "fast") -> Iterator[Item]:
    """The items of an iterator, each computed in inference mode, under `fast_matmul` or in float32; the consumer's mode is
    unchanged."""
    while True:
        with torch.inference_mode(), fast_matmul("cpu") if products == "fast" else nullcontext():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _cpu_has_bfloat16() -> bool:
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)
