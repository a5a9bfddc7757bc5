"""Progress of a task: what its generator yields until the result is there."""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Progress(NamedTuple):
    """One report of a running task; the last one holds the result."""

    done: float
    """Share of the work that is done, from 0 to 1."""
    state: Any = None
    """What can be looked at meanwhile (positions after a sweep, a state of the variables), or None."""
    result: Any = None
    """The task's result in the last report, None before."""


def final_result(reports: Iterable[Progress]) -> Any:
    """Run a task to its end and return its result."""
    for report in reports:
        pass
    return report.result
