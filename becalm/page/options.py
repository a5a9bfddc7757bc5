"""What a request may ask for: a file's name and the options of its kind of job, checked before anything is done with them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from becalm.core.files import InputError
from becalm.tasks.models import models

OUTLIERS = ("keep", "flag", "remove")

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes of photographs of puzzles."""

IMAGES = (*PICTURES, ".npy", ".npz", ".idx", ".gz")
"""Suffixes of files of images."""

VERBS = ("generate", "vary", "interpolate", "complete", "mesh")
"""What a job does with shapes."""

SIDES = ("left", "right", "bottom", "top", "back", "front")
"""Sides of a shape: of x, y and z, each from below and from above."""

FindShapes = Callable[[str], Path]
"""The file of the shapes that a job has made, from the job's number. Raises InputError where there is none."""


def verb_models(verb: str) -> list[str]:
    """Names of the packaged models that a task takes."""
    return [model.name for model in models() if verb in model.verbs]


def cloud_models() -> list[str]:
    """Names of the packaged models that denoise clouds."""
    return verb_models("denoise")


def model_sizes(verb: str) -> dict[str, dict[str, Any]]:
    """What the page needs to know of the packaged models that a task takes: classes of shapes; size and levels of images."""
    from becalm.weights.packaged import metadata

    configs = {model.name: metadata(model.file)["config"] for model in models() if verb in model.verbs}
    return {
        name: {key: config[key] for key in ("classes", "shape", "levels") if key in config}
        for name, config in configs.items()
    }


def read_options(query: Mapping[str, str], kind: str = "scan", find_shapes: FindShapes | None = None) -> dict[str, Any]:
    """The options of a job that a request asks for; of a scan, keywords of `becalm.tasks.denoise.steps`. Raises InputError."""
    if kind == "shapes":
        return shape_options(query, find_shapes or no_shapes)
    if kind not in KINDS:
        raise InputError(f"kind: {kind[:40]!r} is none of {', '.join(KINDS)}")
    return KINDS[kind](query)


def no_shapes(number: str) -> Path:
    """What is said of a job that has made no shapes. Raises InputError."""
    raise InputError("shape: is no longer there; make shapes anew")


def scan_options(query: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments of `becalm.tasks.denoise.steps`, and `example` where a scan is to be made. Raises InputError."""
    check_names(query, "name", "model", "outliers", "noise", "max_displacement", "force", "example")
    model = read_choice(query, "model", cloud_models(), "jets")
    options: dict[str, Any] = {"model": model, "outliers": read_choice(query, "outliers", OUTLIERS)}
    for name, key in (("noise", "sigma"), ("max_displacement", "max_displacement")):
        text = query.get(name, "auto") or "auto"
        if text != "auto":
            options[key] = read_length(name, text)
    return options | {name: True for name in ("force", "example") if query.get(name) == "yes"}


def puzzle_options(query: Mapping[str, str]) -> dict[str, Any]:
    """How a puzzle is solved: `mask`, 1 for each cell to be solved, or `mask_from`, the byte of what was sent where the mask's
    image begins; with neither it is a photograph of a grid of `side` cells; `digits`; `steps_per_variable`."""
    check_names(query, "mask", "mask_from", "side", "digits", "steps", "seed")
    mask = query.get("mask", "")
    if mask and not (re.fullmatch("[01]+", mask) and len(mask) in (16, 81)):
        raise InputError("mask: must have 16 or 81 signs, 1 for each cell to be solved and 0 for each that is given")
    options: dict[str, Any] = {"mask": mask, "mask_from": int(read_number(query, "mask_from", 0, 0, 2**40))}
    options["side"] = int(read_choice(query, "side", ("4", "9"), "9"))
    options["digits"] = query["digits"].split(";") if query.get("digits") else []
    steps = read_number(query, "steps", 6, 2, 50)
    return options | {"steps_per_variable": int(steps), "seed": read_seed(query)}


def shape_options(query: Mapping[str, str], find_shapes: FindShapes) -> dict[str, Any]:
    """What is done with which shapes: `verb`, `model`, `label`, `number`, and the shapes `one` and `other` of earlier jobs."""
    check_names(query, "verb", "model", "label", "number", "seed", "amount", "one", "other", "side", "share", "format")
    verb = read_choice(query, "verb", VERBS)
    options: dict[str, Any] = {"verb": verb, "model": read_choice(query, "model", verb_models("vary"))}
    options |= {"label": query.get("label") or None, "seed": read_seed(query)}
    options["number"] = int(read_number(query, "number", 12, 1, 48))
    needed = {"generate": (), "interpolate": ("one", "other")}.get(verb, ("one",))
    for name in needed:
        number, _, index = query.get(name, "").partition(":")
        if not index.isdecimal():
            raise InputError(f"{name}: must name a job and one of its shapes, JOB:NUMBER")
        options[name] = [str(find_shapes(number)), int(index)]
    if verb == "vary":
        options["amount"] = read_number(query, "amount", 0.5, 0, 1)
    if verb == "complete":
        options |= {"side": read_choice(query, "side", SIDES), "share": read_number(query, "share", 0.5, 0.1, 0.9)}
    if verb == "mesh":
        options["format"] = read_choice(query, "format", ("ply", "obj", "stl"))
    return options


def image_options(query: Mapping[str, str]) -> dict[str, Any]:
    """How images are measured: `model`, `draws` of the noise level for each; `examples` makes images instead of reading them."""
    check_names(query, "model", "draws", "seed", "examples")
    options: dict[str, Any] = {"model": read_choice(query, "model", verb_models("likelihood"))}
    options |= {"draws": int(read_number(query, "draws", 8, 1, 64)), "seed": read_seed(query)}
    return options | {"examples": query.get("examples") == "yes"}


KINDS: dict[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
    "scan": scan_options,
    "puzzle": puzzle_options,
    "images": image_options,
}
"""Kinds of jobs that need no other job -> what reads their options."""


def check_names(query: Mapping[str, str], *known: str) -> None:
    """Raise InputError for an option that is none of these."""
    if unknown := sorted(set(query) - set(known)):
        raise InputError(f"{unknown[0][:40]}: is no option")


def read_choice(query: Mapping[str, str], name: str, choices: tuple[str, ...] | list[str], default: str = "") -> str:
    """One of several words, by default the first. Raises InputError."""
    value = query.get(name, default or choices[0])
    if value not in choices:
        raise InputError(f"{name}: {value[:40]!r} is none of {', '.join(choices)}")
    return value


def read_number(
    query: Mapping[str, str], name: str, default: int | float, low: int | float, high: int | float
) -> float:
    """A number between two others. Raises InputError."""
    try:
        value = float(query.get(name, default))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InputError(f"{name}: {query[name][:40]!r} is no number from {low:g} to {high:g}")
    return value


def read_seed(query: Mapping[str, str]) -> int:
    """What decides the random draws. Raises InputError."""
    return int(read_number(query, "seed", 0, 0, 2**53))


def read_length(name: str, text: str) -> float:
    """A length above 0. Raises InputError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise InputError(f"{name}: {text[:40]!r} is no length above 0 in the scan's units")
    return value


def read_name(text: str, kind: str = "scan") -> str:
    """A file's name for display, without folders and control characters. Raises InputError for an unknown suffix."""
    from becalm.points.formats import FORMATS

    name = "".join(c for c in re.split(r"[/\\]", text)[-1] if c.isprintable())[-120:]
    if kind == "shapes":
        return name or "shapes"
    suffixes = {"puzzle": PICTURES, "images": IMAGES}.get(kind, tuple(FORMATS))
    if Path(name).suffix.lower() not in (*suffixes, *([".safetensors"] if kind == "scan" else [])):
        listed = " ".join(suffixes)
        raise InputError(f"{name or 'the file'}: is of a kind that becalm does not read; it reads {listed}")
    return name


def output_name(name: str, kind: str, options: Mapping[str, Any]) -> str:
    """The name under which the result of a job is downloaded."""
    from becalm.points.formats import default_output

    if kind == "puzzle":
        return f"{Path(name).stem}.solved.png"
    if kind == "images":
        return f"{Path(name).stem}.bits.csv"
    if kind == "shapes":
        return f"{Path(name).stem}.{options.get('format', 'npz')}"
    return default_output(Path(name)).name
