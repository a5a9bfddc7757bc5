"""The built page: it is what the sources give, small, and asks nobody but its own server."""

import hashlib
import re
from pathlib import Path

import pytest

from becalm import page

STATIC = Path(page.__file__).parent / "static"
SOURCES = Path(page.__file__).parents[2] / "web" / "src"
SUMS = dict(reversed(line.split("  ")) for line in (STATIC / "SHA256SUMS").read_text().splitlines())


def test_the_files_have_their_checksums():
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in STATIC.iterdir()}
    assert {**found, "sources": SUMS["sources"], "SHA256SUMS": ""} == {**SUMS, "SHA256SUMS": ""}


def test_the_page_was_built_from_these_sources():
    if not SOURCES.is_dir():
        pytest.skip("the sources of the page are not in the installed package")
    digest = hashlib.sha256(
        b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir(), key=lambda path: path.name))
    )
    assert digest.hexdigest() == SUMS["sources"], "web/src has changed: run `npm run build` in web/"


def test_the_page_is_small():
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 700_000


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere():
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|style=|<script>|\son[a-z]+=|https?:|//", html.replace("<!doctype", ""))
    assert not re.search(r"url\(|@import|https?:", (STATIC / "page.css").read_text(encoding="utf-8"))


def test_every_field_has_a_name():
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    for tag in re.findall(r"<input[^>]*>", html):
        around = html[: html.index(tag)]
        assert "aria-label" in tag or around.rfind("<label") > around.rfind("</label"), tag
