"""Training log: one JSON object per line."""

import json
from pathlib import Path

from becalm.core.files import atomic_file


def append_record(path: Path, record: dict) -> None:
    """Append a record as one line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def drop_records_after(path: Path, step: int) -> None:
    """Delete the records after `step`, and an incomplete last line, so that a resumed run logs each step once."""
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
    with atomic_file(path) as temporary:
        temporary.write_text("".join(kept))
