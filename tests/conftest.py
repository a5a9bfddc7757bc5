"""Shapes are checked in every test: each annotation of becalm runs under beartype."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("becalm", "beartype.beartype")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared():
    """A function from a path below the shared data to the file, which skips the test where it is missing."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            pytest.skip(f"needs {relative} of the shared data, which is not here")
        return path

    return find
