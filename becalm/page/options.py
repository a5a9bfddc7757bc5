"""What a request may ask for: a file's name and the options of denoising, checked before anything is done with them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from becalm.core.files import InputError
from becalm.tasks.models import models

OUTLIERS = ("keep", "flag", "remove")


def cloud_models() -> list[str]:
    """Names of the packaged models that denoise clouds."""
    return [model.name for model in models() if "denoise" in model.verbs]


def read_options(query: Mapping[str, str]) -> dict[str, Any]:
    """The keyword arguments of `becalm.tasks.denoise.steps` that a request asks for. Raises InputError."""
    known = {"name", "model", "outliers", "noise", "max_displacement", "force"}
    if unknown := sorted(set(query) - known):
        raise InputError(f"{unknown[0]}: is no option")
    model, outliers = query.get("model", "jets"), query.get("outliers", "keep")
    if model not in cloud_models():
        raise InputError(f"model: {model!r} is none of {', '.join(cloud_models())}")
    if outliers not in OUTLIERS:
        raise InputError(f"outliers: {outliers!r} is none of {', '.join(OUTLIERS)}")
    options: dict[str, Any] = {"model": model, "outliers": outliers}
    for name, key in (("noise", "sigma"), ("max_displacement", "max_displacement")):
        text = query.get(name, "auto") or "auto"
        if text != "auto":
            options[key] = read_length(name, text)
    return options | ({"force": True} if query.get("force") == "yes" else {})


def read_length(name: str, text: str) -> float:
    """A length above 0. Raises InputError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise InputError(f"{name}: {text[:40]!r} is no length above 0 in the scan's units")
    return value


def read_name(text: str) -> str:
    """A file's name for display, without folders and control characters. Raises InputError for an unknown suffix."""
    from becalm.points.formats import FORMATS

    name = "".join(c for c in re.split(r"[/\\]", text)[-1] if c.isprintable())[-120:]
    suffix = Path(name).suffix.lower()
    if suffix not in (*FORMATS, ".safetensors"):
        raise InputError(f"{name or 'the file'}: is of a kind that becalm does not read; it reads {' '.join(FORMATS)}")
    return name
