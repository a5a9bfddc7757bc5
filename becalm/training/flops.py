"""Counting floating-point operations without looking at modules, so that derivatives by torch.func are counted too."""

from torch.utils.flop_counter import FlopCounterMode


class NoModuleTracker:
    """Stands for the counter's tracker of modules, whose hooks fail where torch.func differentiates within a module."""

    parents = frozenset({"Global"})

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def flop_counter() -> FlopCounterMode:
    """A context whose `get_total_flops()` tells what was computed within it."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModuleTracker()  # type: ignore[assignment]
    return counter
