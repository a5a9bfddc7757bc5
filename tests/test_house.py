"""The measures of the house: sizes of files, functions and constructors; names; a page of the reference for every package."""

import ast
import re
import tomllib
import zipfile
from pathlib import Path

import becalm

ROOT = Path(becalm.__file__).parent
TREES = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
BARE = {
    *("told", "heard", "begun", "drawn", "worn", "naming", "watched", "judged", "shown", "walked", "settled", "held"),
    *(
        "made",
        "pushed",
        "placed",
        "raised",
        "counted",
        "finished",
        "beside",
        "strangeness",
        "kinship",
        "surprise",
        "doubt",
    ),
}
"""Words that name nothing by themselves: participles without an object, and metaphors."""


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    """All functions and methods of a file."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def parameters(function: ast.FunctionDef) -> list[str]:
    """The names of a function's parameters."""
    return [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]


def test_files_have_300_lines_at_most():
    lines = {path: (ROOT / path).read_text(encoding="utf-8").count("\n") for path in TREES}
    assert {path: count for path, count in lines.items() if count > 300} == {}


def test_functions_have_50_lines_at_most():
    sizes = {(path, f.name): f.end_lineno - f.lineno + 1 for path, tree in TREES.items() for f in functions(tree)}
    assert {name: count for name, count in sizes.items() if count > 50} == {}


def test_constructors_of_systems_take_seven_arguments_at_most():
    makers = [
        (path, parameters(f)[1:])
        for path, tree in TREES.items()
        if path.parts[0] == "systems"
        for f in functions(tree)
        if f.name == "__init__"
    ]
    assert [maker for maker in makers if len(maker[1]) > 7] == []


def test_functions_classes_and_parameters_have_telling_names():
    names = []
    for path, tree in TREES.items():
        names += [(path, node.name) for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        names += [(path, name) for function in functions(tree) for name in parameters(function)]
    assert [(str(path), name) for path, name in names if name.strip("_").lower() in BARE] == []


def test_every_package_has_a_page_of_the_reference():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    docs = ROOT.parent / "docs"
    if docs.is_dir():
        navigation = (ROOT.parent / "mkdocs.yml").read_text(encoding="utf-8")
        assert [
            p for p in sorted(packages) if f"api/{p}.md" not in navigation or not (docs / f"api/{p}.md").is_file()
        ] == []


def test_the_package_says_that_it_has_types():
    assert (ROOT / "py.typed").is_file()


def test_the_wheel_has_less_than_30_mb(tmp_path):
    with zipfile.ZipFile(tmp_path / "wheel.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
        for path in ROOT.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                wheel.write(path, path.relative_to(ROOT))
    assert (tmp_path / "wheel.zip").stat().st_size < 30e6


def test_the_oldest_dependencies_that_are_tested_are_the_oldest_allowed():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needs = [need for name in extras if name not in ("test", "benchmarks") for need in extras[name]]
    allowed: dict[str, list[int]] = {}
    for need in project["dependencies"] + needs:
        found = re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)$", need)
        if found and found[1] != "torch":
            allowed[found[1]] = max(allowed.get(found[1], []), version(found[2]))
    text = (ROOT.parent / "constraints-oldest.txt").read_text()
    assert {name: version(number) for name, number in re.findall(r"^([\w-]+)==([\d.]+)$", text, re.M)} == allowed


def version(text: str) -> list[int]:
    """A version of up to three numbers, such as 1.26, as a list of three."""
    return [*map(int, text.split(".")), 0, 0][:3]
