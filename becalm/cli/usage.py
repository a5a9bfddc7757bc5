"""Wrong usage in at most three lines: what is wrong, what was probably meant, where the help is."""

import contextlib
import dataclasses
import difflib
import io
import sys
from collections.abc import Iterator
from typing import Any


class UsageError(Exception):
    """A command line that cannot be understood."""


def check_words(words: list[str], commands: dict[str, Any]) -> None:
    """Raise UsageError for a command, or an option of a command, that does not exist: with the nearest that does."""
    if words and words[0].startswith("--") and words[0] != "--help" and not words[0].startswith("--tyro"):
        raise UsageError(f"{words[0]}: no such option before a command; write becalm COMMAND {words[0]}")
    if not words or words[0].startswith("-"):
        return
    name = words[0]
    if name not in commands:
        raise UsageError(f"{name}: no such command{nearest(name, list(commands))}")
    settings, rest = commands[name], words[1:]
    if name == "train":
        if not rest or rest[0].startswith("-"):
            return
        settings, rest, name = recipe_named(rest[0]), rest[1:], f"train {rest[0]}"
    known = option_names(settings)
    for word in rest:
        option = word.split("=")[0].replace("_", "-")
        if option.startswith("--") and len(option) > 2 and option not in [*known, "--help"]:
            raise UsageError(f"{word.split('=')[0]}: becalm {name} has no such option{nearest(option, known)}")


def recipe_named(name: str) -> Any:
    """The recipe of a name. Raises UsageError with the nearest name where there is none."""
    from becalm.tasks.train import recipes

    if name not in recipes():
        raise UsageError(f"{name}: no such recipe{nearest(name, list(recipes()))}")
    return recipes()[name].recipe


def option_names(settings: Any) -> list[str]:
    """The options that set the fields of a dataclass, and of the dataclasses in it: --name, and for a bool also --no-name."""
    names = []
    for field in dataclasses.fields(settings):
        name, inner = field.name.replace("_", "-"), getattr(settings, field.name, None)
        names.append(f"--{name}")
        if field.type in (bool, "bool"):
            names.append(f"--no-{name}")
        if dataclasses.is_dataclass(inner):
            names += [f"--{name}.{part[2:]}" for part in option_names(inner)] + option_names(inner)
    return names


def nearest(word: str, known: list[str]) -> str:
    """The nearest of the known words, as the end of a message; else nothing."""
    found = difflib.get_close_matches(word, known, 1, 0.5)
    found = found or [name for name in known if word.strip("-") and name.strip("-").startswith(word.strip("-"))][:1]
    return f"; did you mean {found[0]}?" if found else ""


@contextlib.contextmanager
def short_messages(words: list[str]) -> Iterator[None]:
    """Wrong usage found in the block, by `check_words` or by tyro in a box of many lines, is printed in two lines; status 2."""
    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            yield
    except UsageError as error:
        reason = str(error)
    except SystemExit as ended:
        if ended.code != 2:
            raise
        reason = first_paragraph(caught.getvalue())
    else:
        sys.stderr.write(caught.getvalue())
        return
    command = f"becalm {words[0]}" if words and words[0].isidentifier() else "becalm"
    help_of = "becalm" if "no such command" in reason else command
    print(f"{reason}\n`{help_of} --help` lists what there is", file=sys.stderr)
    sys.exit(2)


def first_paragraph(box: str) -> str:
    """The first paragraph of a box that tyro draws, as one line of 300 characters at most.

    Where the terminal shows ASCII alone, the box is a title between rules of hyphens.
    """
    lines = [line.strip("│ \t") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    lines = lines[2:] if len(lines) > 1 and set(lines[1]) == {"-"} else lines
    kept: list[str] = []
    for line in lines:
        if set(line) in ({"─"}, {"-"}) or (kept and not line):
            break
        kept.append(line)
    text = " ".join(" ".join(kept).split())
    return text if len(text) <= 300 else f"{text[:299]}…"
