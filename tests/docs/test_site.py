"""The site of the documentation: formulas can be typeset, names exist, every model and every page is in it."""

import importlib
import re
import sys

import pytest

from tests.docs.pages import CARDS, PAGES, ROOT

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"`(becalm(?:\.[A-Za-z_]\w*)+)`")
SITE = [page for page in PAGES if page.parent.name == "docs"]


@pytest.fixture
def markdown(monkeypatch):
    """The module that typesets formulas when the site is built."""
    for package in ("markdown", "math_core"):
        pytest.importorskip(package, reason=f"needs {package}")
    monkeypatch.setattr(sys, "path", [str(ROOT / "web"), *sys.path])
    return importlib.import_module("docs_markdown")


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.stem)
def test_formulas_can_be_typeset(page, markdown):
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    formulas = re.findall(markdown.INLINE, prose)
    assert prose.count("$") == 2 * len(formulas), "a dollar sign that belongs to no formula"
    for formula in formulas:
        assert markdown.mathml(formula).startswith("<math")
    for kind, formula in FENCE.findall(text):
        if kind == "math":
            assert 'display="block"' in markdown.mathml(formula.strip(), block=True)


def test_a_formula_becomes_mathml_and_a_price_does_not(markdown):
    convert = importlib.import_module("markdown").Markdown(extensions=["docs_markdown"]).convert
    assert "<msub><mi>z</mi><mi>t</mi></msub>" in convert("Noise $z_t$.") and "<math" not in convert(
        "$5 and $6 or `$x$`"
    )
    assert "<msup><mi>σ</mi><mn>2</mn></msup>" in convert("$σ²$")
    assert 'href="process.md"' in convert("[The process](docs/process.md)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_dotted_names_exist(page):
    for name in set(NAME.findall(page.read_text(encoding="utf-8"))):
        thing, parts = importlib.import_module("becalm"), name.split(".")[1:]
        for k, part in enumerate(parts):
            if not hasattr(thing, part):
                importlib.import_module(".".join(["becalm", *parts[: k + 1]]))
            thing = getattr(thing, part)


def test_every_model_has_a_page():
    assert {page.stem for page in (ROOT / "docs" / "models").glob("*.md")} == {card.stem for card in CARDS}


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [
        page.name
        for page in (ROOT / "docs").rglob("*.md")
        if f": {page.relative_to(ROOT / 'docs').as_posix()}" not in menu
    ] == []
