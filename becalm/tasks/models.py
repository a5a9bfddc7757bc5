"""The packaged models: `becalm.models()` lists what each is for, what it takes, and its card."""

from dataclasses import dataclass
from html import escape
from math import isqrt
from pathlib import Path

from becalm.weights.packaged import metadata, packaged_models

VERBS = {
    "jets": ("denoise",),
    "sbd": ("denoise",),
    "spd": ("denoise",),
    "vdm": ("likelihood", "generate", "compress", "decompress"),
    "lion": ("generate", "complete", "interpolate", "vary"),
}
"""The functions and commands that take a model, by its system's name in the file."""


@dataclass(frozen=True)
class PackagedModel:
    """A model that ships with the package."""

    name: str
    """What `becalm.load` and every function and command call it."""
    task: str
    """What it was trained for."""
    verbs: tuple[str, ...]
    """The functions and commands that take it."""
    takes: str
    """What it is given, and in which size."""
    file: Path
    """Its weights."""
    sha256: str
    """Checksum of that file."""

    @property
    def card(self) -> str:
        """Its model card in Markdown: data, licence, budget, machine, seed, scores and limits."""
        path = self.file.with_suffix(".md")
        return path.read_text(encoding="utf-8") if path.is_file() else ""


class ModelList(tuple[PackagedModel, ...]):
    """Packaged models in the order of their names, which print as a table."""

    def __repr__(self) -> str:
        rows = [(model.name, ", ".join(model.verbs) or "–", model.takes) for model in self]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{name:<{widths[0]}}  {verbs:<{widths[1]}}  {takes}" for name, verbs, takes in rows)

    def _repr_html_(self) -> str:
        cells = [(model.name, ", ".join(model.verbs), model.takes, model.task) for model in self]
        rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in cells]
        head = "".join(f"<th>{title}</th>" for title in ("model", "for", "takes", "task"))
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def models() -> ModelList:
    """The packaged models, sorted by name."""
    listed = []
    for known in packaged_models():
        fields = metadata(Path(known["file"]))
        listed.append(PackagedModel(verbs=verbs(fields), takes=takes(fields), **{**known, "file": Path(known["file"])}))
    return ModelList(listed)


def verbs(fields: dict) -> tuple[str, ...]:
    """The functions that take a model, from its file's metadata; models that serve inside another task have none."""
    if fields["model"] == "srm":
        return ("evaluate",) if "benchmark" in fields else ("solve",)
    return VERBS.get(fields["model"], ())


def takes(fields: dict) -> str:
    """What a model is given, from its file's metadata."""
    config = fields["config"]
    match fields["model"]:
        case "jets" | "sbd" | "spd":
            return "a cloud of points"
        case "vdm":
            height, width, colours = config["shape"]
            return f"{'grey' if colours == 1 else 'colour'} images, {height} × {width}, of {config['levels']} levels"
        case "lion":
            return f"shapes of {len(config['classes'])} classes: {', '.join(config['classes'][:6])}" + (
                " …" if len(config["classes"]) > 6 else ""
            )
        case "srm" if "benchmark" in fields:
            return f"nothing: it makes images (becalm evaluate {fields['recipe']} {fields['benchmark']})"
        case "srm":
            side, pixels = isqrt(len(config["places"])), isqrt(config["channels"])
            return f"a grid of {side} × {side} cells, each of {pixels} × {pixels} pixels, and a mask"
        case "digit_classifier" | "judge":
            return f"cells of {config['side']} × {config['side']} pixels (used by solve)"
        case "painter":
            return "layouts of polygons (used by polygons)"
    return ""
