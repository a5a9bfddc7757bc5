"""What the documentation says works: its Python runs, its commands run, its options and extras exist."""

import re
import shlex
import shutil
import tomllib
from dataclasses import fields, is_dataclass, replace

import pytest

from becalm import cli
from becalm.cli.evaluate import COMMON, USED, Evaluate
from becalm.tasks.train import change_fields, recipes
from tests.docs import files, pages


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """A folder with the small files that the pages' lines name."""
    folder = tmp_path_factory.mktemp("examples")
    files.write_scans(folder)
    files.write_images(folder)
    files.write_models(folder)
    return folder


@pytest.fixture
def in_examples(examples, tmp_path, monkeypatch):
    """A copy of that folder as the working directory."""
    shutil.copytree(examples, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("block", pages.python_blocks(), ids=lambda block: block.place)
def test_python_runs(block, in_examples):
    exec(compile(block.text, block.place, "exec"), {"__name__": "block"})


@pytest.mark.parametrize("line", pages.command_lines(), ids=lambda line: line.place)
def test_commands_run(line, in_examples):
    words = shlex.split(line.text, comments=True)[1:]
    if words == ["--version"]:
        return
    command = cli.parse(words)
    if reason := next((why for start, why in ELSEWHERE.items() if line.text.startswith(start)), None):
        pytest.skip(reason)
    assert cli.run_command(shorten(command)) == 0


ELSEWHERE = {
    "becalm import score-denoise": "needs the checkpoint of SPD's authors",
    "becalm view": "serves the page until it is interrupted",
    "becalm serve": "serves the page until it is interrupted",
    "becalm tour": "takes minutes; its jobs are tested one by one, and its page",
    "becalm evaluate mnist digits": "takes minutes; tests/evaluation/test_digits.py runs it on small images",
    "becalm train srm": "",
    "becalm train": "takes minutes, or data that are not here; the tests of its recipe train it",
}
"""Why lines that begin so are only parsed; the first that fits counts, and those without a reason run."""

SHORT = {
    "steps_per_variable": 1,
    "refine": 0,
    "tries": 1,
    "rounds": 0,
    "puzzles": 2,
    "shapes": 2,
    "number": 2,
    "draws": 1,
    "points": 300,
    "emd_points": 32,
    "walks": ("certainty",),
    "force": True,
}
"""Options of commands that are set to less than the pages say; outputs may exist, as inputs of other lines."""

SHORT_RUN = {
    **{"steps": 1, "prior_steps": 1, "log_every": 1, "batch": 4, "prior_batch": 4, "pool": 8, "workers": 0},
    **{"width": 16, "depth": 1, "layers": 1, "seen": 64, "target": 64, "check": 0},
}
"""Fields of recipes and of their plans that are set to less."""


def shorten(command):
    """The command with less to compute."""
    if hasattr(command, "recipe"):
        return replace(command, recipe=change_fields(command.recipe, fitting(command.recipe, SHORT_RUN)))
    short = dict(SHORT)
    if getattr(command, "mesh", "none") != "none":
        short["number"] = 1  # a surface takes seconds
    fewer = {name: short[name] for name in short if getattr(command, name, None) is not None}
    if hasattr(command, "steps") and type(command).__name__ != "Denoise":
        fewer["steps"] = 2  # also where it is left to the model
    if isinstance(command, Evaluate):
        used = COMMON | USED.get(command.benchmark, USED["mesh"])
        fewer = {name: value for name, value in fewer.items() if name in used}  # the command refuses the others
    return replace(command, **fewer)


def fitting(recipe, short: dict) -> dict:
    """The entries of `short` that the recipe, or a dataclass in it, has; nothing that would not fit weights to start from."""
    own = names(recipe)
    kept = short if getattr(recipe, "start", None) is None else {k: v for k, v in short.items() if k not in SIZES}
    return {name: value for name, value in kept.items() if name in own}


SIZES = {"width", "depth", "layers"}
"""Fields that say how large a network is."""


def names(kind) -> set[str]:
    """The options that a dataclass makes: its fields, and those of the dataclasses in it."""
    nested = (getattr(kind, field.name, None) for field in fields(kind))
    return {field.name for field in fields(kind)}.union(*(names(value) for value in nested if is_dataclass(value)))


def test_options_exist():
    known = {"help", "version", "tyro_print_completion", "no_browser", "no_open", "no_rewrite", "rm"}.union(
        *(names(command) for command in cli.commands().values() if is_dataclass(command))
    )
    known = known.union(*(names(recipe) for recipe, _ in recipes().values()))
    missing = [option for option in pages.options() if option.text.replace("-", "_") not in known]
    assert missing == []


def test_extras_exist():
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = re.findall(
        r"(?:becalm|\.|whl)\[([\w,]+)\]", " ".join(page.read_text(encoding="utf-8") for page in pages.PAGES)
    )
    assert named and {extra for group in named for extra in group.split(",")} <= extras.keys()
    table = (pages.ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == extras.keys()
    assert set(extras["all"][0].split("[")[1].rstrip("]").split(",")) == extras.keys() - {"all", "test", "benchmarks"}
