"""Several scans in one command: folders, patterns, and a table of what came of each."""

import glob
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any


def expand_scans(paths: Sequence[Path]) -> list[Path]:
    """The scans that are meant: of a folder all in it but outputs of earlier runs, of a pattern all that fit it.

    Raises InputError for none.
    """
    from becalm.core.files import InputError
    from becalm.points.formats import FORMATS, default_output

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in FORMATS and not p.name.startswith("."))
            names = {default_output(p) for p in inside}  # of earlier runs in this folder
            inside = [p for p in inside if p not in names]
            if not inside:
                raise InputError(f"{path}: holds no scan; known are {' '.join(FORMATS)}")
            found += inside
        elif glob.has_magic(str(path)) and not path.exists():
            fitting = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
            if not fitting:
                raise InputError(f"{path}: no file fits this pattern")
            found += fitting
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def denoise_each(command: Any, scans: list[Path]) -> None:
    """Run the command for each scan, whatever becomes of the others, and print a table, or with --json an object for each.

    The output is a folder, made where there is none; without one each scan's output lies beside it. Raises InputError at the end
    where a scan could not be denoised.
    """
    from becalm.cli import error_line
    from becalm.cli.denoise import warn
    from becalm.core.files import InputError

    if command.record or command.picture:
        raise InputError("--record, --picture: are for one scan (leave them out)")
    outputs = output_paths(command, scans)
    rows = []
    for scan, output in zip(scans, outputs, strict=True):
        try:
            one = replace(command, scan=scan, more=(), output=output, json=True)
            rows.append({"scan": str(scan)} | json.loads(one.run_one()[0]))
        except (InputError, OSError) as error:
            rows.append({"scan": str(scan), "error": error_line(error)})
            warn(rows[-1]["error"])
        if command.json:
            print(json.dumps(rows[-1]), flush=True)
    if not command.json:
        print("\n".join(table_lines(rows)))
    failed = sum("error" in row for row in rows)
    if failed:
        sys.stdout.flush()
        raise InputError(f"{failed} of {len(scans)} scans were not denoised")


def output_paths(command: Any, scans: list[Path]) -> list[Path]:
    """Where the denoised scans go. Raises InputError where two would have one name, or the output is a file."""
    from becalm.core.files import InputError
    from becalm.points.formats import default_output

    if command.output is None:
        return [default_output(scan) for scan in scans]
    if command.output.exists() and not command.output.is_dir():
        raise InputError(f"{command.output}: is a file; for several scans give a folder")
    outputs = [command.output / scan.name for scan in scans]
    for output in outputs:
        if outputs.count(output) > 1:
            raise InputError(f"{output}: is the output of two scans of that name; denoise them one after the other")
    command.output.mkdir(parents=True, exist_ok=True)
    return outputs


def table_lines(rows: list[dict]) -> Iterator[str]:
    """A line for each scan: points, noise before and after, seconds; or what was wrong."""
    width = max(len(row["scan"]) for row in rows)
    yield f"{'scan':<{width}}  {'points':>12}  {'noise':>9}  {'after':>9}  {'seconds':>8}"
    for row in rows:
        if "error" in row:
            yield f"{row['scan']:<{width}}  {'failed':>12}"
            continue
        noise = f"{row['noise_before']:>9.3g}  {row['noise_after']:>9.3g}"
        yield f"{row['scan']:<{width}}  {row['points']:>12,}  {noise}  {row.get('seconds', 0):>8.1f}"
