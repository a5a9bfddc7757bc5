"""becalm info: the contents of a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Info:
    """Describe a scan or a file of weights."""

    file: Annotated[Path, tyro.conf.Positional]
    """A scan, or weights (.safetensors)."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Read and describe."""
        facts = describe_weights(self.file) if self.file.suffix == ".safetensors" else describe_scan(self.file)
        if self.json:
            print(json.dumps(facts))
            return
        for name, value in facts.items():
            print(
                f"{name:<12} {'  '.join(f'{k}: {v}' for k, v in value.items()) if isinstance(value, dict) else value}"
            )


def describe_scan(path: Path) -> dict:
    """Points, extent, spacing, estimated noise and attributes of a scan."""
    from becalm.cli.denoise import warn
    from becalm.points import read
    from becalm.points.denoise import MIN_POINTS
    from becalm.points.estimate import noise_level

    cloud = read(path, warn)
    finite = cloud.xyz[cloud.finite]
    local = cloud.local()[cloud.finite]
    return {
        "file": str(path),
        "points": len(cloud),
        "missing": int((~cloud.finite).sum()),
        "low": finite.min(0).tolist(),
        "high": finite.max(0).tolist(),
        "noise": noise_level(local) if len(local) >= MIN_POINTS else None,
        "attributes": {name: f"{a.dtype}{list(a.shape[1:]) or ''}" for name, a in cloud.attributes.items()},
    }


def describe_weights(path: Path) -> dict:
    """Metadata, tensors and parameters of a file of weights."""
    from becalm.weights.store import describe

    return describe(path)
