"""The models in the package, told from their files alone: nothing here loads a network."""

from hashlib import sha256
from pathlib import Path

from becalm.core.files import InputError
from becalm.core.tensor_facts import read_facts

WEIGHTS = Path(__file__).parent


def packaged_models() -> list[dict]:
    """The models in the package: name, task, file and sha256 of each."""
    models = []
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        task = metadata(path).get("task", "")
        models.append({"name": path.stem, "task": task, "file": str(path), "sha256": weights_sha256(path)})
    return models


def weights_sha256(name: Path | str) -> str:
    """The SHA-256 of the file of a packaged model, or of a file of weights. Raises InputError as `find_weights`."""
    return sha256(find_weights(name).read_bytes()).hexdigest()


def find_weights(name: Path | str) -> Path:
    """The file of a packaged model, whose name may have - for _, or the file itself. Raises InputError naming what there is."""
    path = Path(name)
    if path.is_file():
        return path
    if (path.parent / "states").is_dir():
        raise InputError(f"{path}: this training run has not ended; give its `becalm train` again, and it goes on")
    shipped = WEIGHTS / f"{str(name).replace('-', '_')}.safetensors"
    if path.suffix or path.name != str(name) or not shipped.is_file():
        known = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.safetensors")))
        raise InputError(f"{name}: no such file, and no packaged model of that name (there is {known})")
    return shipped


def metadata(path: Path | str) -> dict:
    """The JSON metadata of a stored model. Raises InputError when it is not one."""
    return read_facts(path, "becalm")
