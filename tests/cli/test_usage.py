"""Wrong usage in three lines, with what was probably meant; help that does not wait for torch."""

import subprocess
import sys

import pytest

from becalm.cli import main
from becalm.cli.usage import first_paragraph

WRONG = {
    "a command": ("denois scan.ply", "denois: no such command; did you mean denoise?"),
    "an option": ("denoise --nois 3 scan.ply", "--nois: becalm denoise has no such option; did you mean --noise?"),
    "an option with its value": (
        "denoise scan.ply --sed=3",
        "--sed: becalm denoise has no such option; did you mean --seed?",
    ),
    "an option far from all": ("models --qqqqqq", "--qqqqqq: becalm models has no such option"),
    "a recipe": ("train jts", "jts: no such recipe; did you mean jets?"),
    "an option of a recipe": (
        "train jets --stepz 3",
        "--stepz: becalm train jets has no such option; did you mean --steps?",
    ),
    "a choice": ("denoise scan.ply --outliers eat", "Expected one of ('keep', 'flag', 'remove')"),
    "nothing": ("denoise", "Missing from becalm denoise: PATH"),
    "too much": ("info a.ply b.ply", "Unrecognized options: b.ply"),
    "too few values": ("denoise a.ply --viewpoint 1 2", "Error parsing --viewpoint"),
    "an option before a command": (
        "--nois 3 scan.ply",
        "--nois: no such option before a command; write becalm COMMAND --nois",
    ),
    "no command": ("", "Expected one of {denoise, solve"),
}


@pytest.mark.parametrize("case", WRONG, ids=WRONG)
def test_wrong_usage_takes_three_lines_and_exits_2(capsys, case):
    words, expected = WRONG[case]
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert expected in err and len(err.splitlines()) <= 3 and "--help` lists" in err


def test_boxes_of_terminals_without_lines_are_read_too():
    box = "Value error\n-----------\nError parsing --tile: x\n-----------\nArgument helptext: --tile INT\n"
    assert first_paragraph(box) == "Error parsing --tile: x"
    assert first_paragraph("╭─ Value error ─╮\n│ Error x │\n│ ───── │\n│ more │\n╰──────╯") == "Error x"


def test_options_may_be_written_with_underscores_and_negated():
    from becalm.cli import parse

    command = parse(["denoise", "a.ply", "--max_displacement", "2", "--no-details", "--only-class=2,6"])
    assert command.max_displacement == 2 and command.only_class == "2,6"


def test_help_waits_for_neither_torch_nor_numpy():
    code = "import sys, becalm.cli as c\ntry: c.main({})\n"
    code += "except SystemExit: print([m for m in ('torch', 'numpy') if m in sys.modules])"
    for words in (["--help"], ["denoise", "--help"]):
        run = subprocess.run([sys.executable, "-c", code.format(words)], capture_output=True, text=True, check=True)
        assert "denoise" in run.stdout and run.stdout.splitlines()[-1] == "[]"


def test_the_page_and_the_list_of_models_wait_for_no_torch():
    code = "import sys, becalm.page.server, becalm.tasks.models as m; m.models(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
