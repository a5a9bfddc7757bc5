"""The README's program with a network of one's own runs as printed; ordinary networks serve every walk but one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import becalm

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_s_network_runs_as_printed(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    (program,) = [block for block in blocks if "becalm.Denoiser(" in block]
    exec(compile(program, "README.md", "exec"), {})
    levels = [float(line) for line in re.findall(r"tensor\(([\d.e-]+)", capsys.readouterr().out)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0


def ordinary(z, t, given):
    """A network that returns its target alone."""
    return -z


def last(walk) -> torch.Tensor:
    denoiser = becalm.Denoiser(ordinary, becalm.Rectified(), becalm.velocity)
    for step in becalm.sample(denoiser, torch.randn(2, 6, 3), torch.ones(2, 6, 1), walk):
        state = step
    return state.t


def test_a_bare_tensor_is_enough_for_every_walk_without_certainty():
    graph = torch.ones(6, 6, dtype=torch.float64)
    for walk in (
        becalm.walk.together(4),
        becalm.walk.in_order(steps_per_variable=2),
        becalm.walk.by_graph(graph, steps_per_variable=2),
    ):
        assert bool((last(walk) == 0).all())


def test_certainty_without_log_var_says_what_the_network_must_return():
    with pytest.raises(ValueError, match=r"return becalm.Output\(value, log_var\)"):
        last(becalm.walk.by_certainty(steps_per_variable=2))


def test_importing_becalm_imports_the_core_alone_and_tasks_when_used():
    program = (
        "import sys, becalm; others = [m for m in sys.modules if m.startswith('becalm.') and not m.startswith('becalm.core')];"
        "assert not others, others; assert 'denoise' in dir(becalm) and not hasattr(becalm, 'nothing');"
        "assert callable(becalm.denoise) and callable(becalm.tasks.generate.steps) and callable(becalm.load)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
