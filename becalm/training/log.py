"""Training log: one JSON object per line."""

import json
from pathlib import Path


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
    path.write_text("".join(kept))
