"""Torch devices from the names of `--device`."""

import torch

from becalm.core.files import InputError


def device_of(name: str) -> torch.device:
    """The device "cpu", "cuda", "cuda:1" or "mps". Raises InputError where this machine does not have it."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: is not a device; give cpu, cuda or mps") from error
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(device.type, False) or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(
            f"--device {name}: this machine has no such device; leave the option out to compute on the CPU"
        )
    return device
