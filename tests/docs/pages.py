"""What the documentation's pages hold: blocks of Python, lines of the command, names of options."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CARDS = sorted((ROOT / "becalm" / "weights").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A piece of a page."""

    place: str
    """Page and line."""
    text: str


def place(page: Path, text: str, start: int) -> str:
    """Where a piece begins, as page:line."""
    return f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, start) + 1}"


def python_blocks() -> list[Block]:
    """All blocks that are marked as Python."""
    return [
        Block(place(page, text, match.start(2)), match[2])
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for match in FENCE.finditer(text)
        if match[1] == "python"
    ]


def command_lines() -> list[Block]:
    """All lines of the command in shell blocks and indented blocks."""
    listed = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = [match.span(2) for match in FENCE.finditer(text) if match[1] in ("", "sh")]
        for line in re.finditer(r"^( *)(becalm .*)$", text, re.MULTILINE):
            if len(line[1]) >= 4 or any(start <= line.start() < end for start, end in shell):
                listed.append(Block(place(page, text, line.start()), line[2]))
    return listed


def options() -> list[Block]:
    """All options that are named in `code`, each once a page."""
    listed = {}
    for page in [*PAGES, *CARDS]:
        text = page.read_text(encoding="utf-8")
        for code in re.finditer(r"`(?!python )([^`\n]+)`", text):
            for option in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", code[1]):
                listed.setdefault((page.name, option), Block(place(page, text, code.start()), option))
    return list(listed.values())
