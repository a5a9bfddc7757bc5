"""The log of a run: one JSON object a line, which any tool can read while the run goes on."""

import json
from pathlib import Path


def append_record(path: Path, record: dict) -> None:
    """Add one record as one line."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def drop_records_after(path: Path, step: int) -> None:
    """Drop the records after `step` (and a half-written last line), so that a resumed run logs each step once."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["step"] <= step:
            kept.append(line + "\n")
    path.write_text("".join(kept))
