"""becalm tour: one page, never over another file unless told so."""

import json

from becalm.cli import run_command
from becalm.cli.tour import Tour
from becalm.tasks import tour
from tests.tasks.test_tour import quick_job


def test_it_writes_the_page_and_keeps_what_is_there(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tour, "STOPS", {"Only": quick_job})
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page = tmp_path / "tour.html"
    assert run_command(Tour(page, open=False, json=True)) == 0
    assert json.loads(capsys.readouterr().out)["jobs"]["Only"]["a <b>"] == "0 & more"
    assert "Only" in page.read_text(encoding="utf-8") and opened == []
    assert run_command(Tour(page)) == 1 and "tour.html" in capsys.readouterr().err
    assert run_command(Tour(page, force=True)) == 0 and opened == [page.resolve().as_uri()]
    assert run_command(Tour(tmp_path / "tour.pdf")) == 1 and "ends in .html" in capsys.readouterr().err
