"""Matrix products in bfloat16 where the processor has them in hardware, float32 elsewhere."""

from contextlib import AbstractContextManager

import torch


def fast_products(device: str) -> AbstractContextManager:
    """A context in which networks multiply in bfloat16 if that is fast here: any GPU, a CPU with AMX or AVX512-BF16."""
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or _cpu_has_bfloat16())


def _cpu_has_bfloat16() -> bool:
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)
