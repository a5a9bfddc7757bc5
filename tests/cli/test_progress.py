"""Signs of life on standard error, and options that a benchmark cannot use."""

import time

import pytest

from becalm.cli import main
from becalm.cli.progress import heartbeat


def test_a_heartbeat_says_at_once_and_again_what_was_done_last(capsys):
    status = ["preparing"]
    with heartbeat(status, every=0.05):
        assert capsys.readouterr().err == "preparing\n"
        status.append("step 1")
        time.sleep(0.2)
    said = capsys.readouterr().err
    assert said.startswith("step 1, 0 s\n")
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("benchmark", "option"),
    [
        ("cube.npz", "--picture a.png"),
        ("cube.npz", "--digits nope"),
        ("sudoku", "--points 5"),
        ("families", "--images 3"),
    ],
)
def test_options_that_a_benchmark_cannot_use_are_refused(capsys, benchmark, option):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "jets", benchmark, *option.split()])
    assert ended.value.code == 1
    assert f"{option.split()[0]}: has no use on {benchmark}" in capsys.readouterr().err


def test_info_shows_the_card_of_a_packaged_model(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["info", "jets"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("#") and "icen" in out
    with pytest.raises(SystemExit) as ended:
        main(["info", "nonesuch"])
    assert ended.value.code == 1 and "no packaged model" in capsys.readouterr().err
