"""becalm info: the contents of a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Info:
    """Describe a scan, a file of weights or a packaged model."""

    file: Annotated[Path, tyro.conf.Positional]
    """A scan, weights (.safetensors), or the name of a packaged model, whose card is shown."""
    columns: str = ""
    """Which columns of a text file are x, y and z, by number from 1 or by name: x=2,y=3,z=4. By default their names decide."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Read and describe."""
        if not self.file.suffix and not self.file.exists():
            return print(json.dumps(describe_model(str(self.file))) if self.json else model_card(str(self.file)))
        weights = self.file.suffix == ".safetensors"
        facts = describe_weights(self.file) if weights else describe_scan(self.file, self.columns)
        if self.json:
            print(json.dumps(facts))
            return
        for name, value in facts.items():
            if name == "grid" and not value:
                continue
            text = "  ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{name:<12} {text}{ROUGHNESS if name == 'roughness' and value is not None else ''}")


ROUGHNESS = " (how far points lie off the surface through their neighbours; denoise shows it too, and estimates the whole noise)"
"""What the roughness is, and that it is not the noise that `becalm denoise` finds."""


def describe_scan(path: Path, columns: str = "") -> dict:
    """Points, extent, spacing, roughness and attributes of a scan."""
    from becalm.cli.denoise import parse_columns, warn
    from becalm.points import ScanError, read
    from becalm.points.denoise import scan_roughness
    from becalm.points.quantisation import coordinate_steps
    from becalm.points.suitability import check_suitable

    cloud = read(path, warn, parse_columns(columns))
    measured = cloud.xyz[cloud.measured]
    try:
        check_suitable(cloud)
    except ScanError as error:
        warn(f"{path}: {error}")
    roughness = scan_roughness(cloud)
    return {
        "file": str(path),
        "points": len(cloud),
        "missing": int((~cloud.measured).sum()),
        "low": [round_digits(x, 10) for x in measured.min(0).tolist()],
        "high": [round_digits(x, 10) for x in measured.max(0).tolist()],
        "grid": {steps.where: round_digits(steps.step, 3) for steps in coordinate_steps(measured, noise=roughness)},
        "roughness": None if roughness is None else round_digits(roughness, 3),
        "attributes": {name: f"{a.dtype}{list(a.shape[1:]) or ''}" for name, a in cloud.attributes.items()},
    }


def model_card(name: str) -> str:
    """The card of a packaged model: what it is for, data, budget, scores, limits. Raises InputError."""
    from becalm.weights.packaged import find_weights

    return find_weights(name).with_suffix(".md").read_text(encoding="utf-8").rstrip()


def describe_model(name: str) -> dict:
    """What `describe_weights` says of a packaged model, and its card. Raises InputError."""
    from becalm.weights.packaged import find_weights

    return describe_weights(find_weights(name)) | {"card": model_card(name)}


def describe_weights(path: Path) -> dict:
    """Metadata, tensors and parameters of a file of weights."""
    from becalm.weights.store import describe

    return describe(path)


def round_digits(value: float, digits: int) -> float:
    """A number rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")
