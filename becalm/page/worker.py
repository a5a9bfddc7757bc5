"""The process of one job: does what is asked with a file, writes what the page draws and the file to download.

`python -m becalm.page.worker FOLDER` takes its task from FOLDER/task.json and reports on standard output, one JSON object a line.
It ends when its standard input closes, as it does when the server ends, however that ends.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

EXAMPLE_FACTS = {"unit": "m", "notes": ["This is an example: a laser scan of a yard, simulated, in metres."]}
"""What the page says about the example, whose format knows no unit."""

Say = Callable[..., None]
"""Sends a report: keyword arguments become a JSON object."""


def main() -> None:
    """Work on the job of the folder in the command line."""
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the reports
    threading.Thread(target=exit_with_server, daemon=True).start()

    def say(**report: Any) -> None:
        reports.write(json.dumps(report) + "\n")
        reports.flush()

    folder = Path(sys.argv[1])
    sys.exit(run_task(folder, json.loads((folder / "task.json").read_text(encoding="utf-8")), say))


def exit_with_server() -> None:
    """Wait until standard input closes, then end the process at once."""
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(1)


def run_task(folder: Path, task: dict, say: Say) -> int:
    """Do the task within its limits and return the exit status; what is wrong with a file becomes a report `error`."""
    from becalm.core.files import InputError
    from becalm.core.limits import Limits, limited_to

    limit_memory(task["memory"])
    path, name = Path(task["path"]), task["name"]

    def display_text(text: object) -> str:
        line = str(text).replace(str(path), name).replace(str(folder / task["output"]), "the result")
        return " ".join(line.split())

    try:
        with limited_to(Limits(**task["limits"])):
            work = worker_of(task["kind"], path)
            work(folder, path, task, say, lambda line: say(warning=display_text(line)))
    except (InputError, OSError) as error:
        say(error=display_text(error))
        return 1
    except MemoryError:
        say(error=f"{name}: needs more memory than the {task['memory'] / 2**30:.0f} GB given to a job")
        return 1
    except ModuleNotFoundError as error:
        say(error=f"{name}: needs the package {error.name}: pip install 'becalm[all]'")
        return 1
    return 0


def worker_of(kind: str, path: Path) -> Callable[..., None]:
    """The function that does a kind of job: (folder, path of what was sent, task, say, warn)."""
    if kind == "puzzle":
        from becalm.page.puzzle_job import solve_puzzle

        return solve_puzzle
    if kind == "shapes":
        from becalm.page.shapes_job import make_shapes

        return make_shapes
    if kind == "images":
        from becalm.page.images_job import measure_images

        return measure_images
    return show_trajectory if path.suffix == ".safetensors" else denoise_scan


def limit_memory(memory: int) -> None:
    """Let this process have so many bytes of address space at most; nothing where the system knows no such limit."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def denoise_scan(folder: Path, path: Path, task: dict, say: Say, warn: Callable[[str], object]) -> None:
    """Read a scan, show it, denoise it, show that, and write the file: the same calls as `becalm denoise`."""
    from becalm.page.bundle import bundle_arrays, write_bundle
    from becalm.points.formats import check_writable, read
    from becalm.points.units import Unit
    from becalm.tasks import denoise
    from becalm.tasks.tiling import Tiling
    from becalm.tasks.workers import usable_cores

    options, output = dict(task["options"]), folder / task["output"]
    example = options.pop("example", False)
    if example:
        write_example(path)
    cloud = read(path, warn)
    check_writable(cloud, output)
    common = cloud_facts(cloud) | (EXAMPLE_FACTS if example else {})
    write_bundle(folder / "scan.safetensors", bundle_arrays(cloud, [cloud.xyz], {}), common)
    say(scan=True)
    states, result = [cloud.xyz], None
    for report in denoise.steps(cloud, warn=warn, tiling=Tiling(workers=usable_cores()), **options):
        states += [] if report.state is None else [report.state]
        result = report.result
        say(done=report.done)
    assert result is not None
    result.save(output, warn=warn)
    result = result.as_written(output)
    states = [*(states if len(states) == 1 else states[:-1]), result.points]
    attributes = result.attributes | ({"outlier": result.outlier} if result.outlier.any() else {})
    notes = [*common.get("notes", ()), *summary_notes(result)]
    summary = list(summary_rows(result, Unit(common["unit"])))
    facts = {**common, "report": asdict(result.report), "summary": summary, "notes": notes}
    write_bundle(folder / "run.safetensors", bundle_arrays(cloud, states, attributes), facts)
    say(run=True, output=output.name, bytes=output.stat().st_size)


def write_example(path: Path) -> None:
    """Write a simulated laser scan of a yard, about 33 000 points, for people who have no scan at hand."""
    import numpy as np

    from becalm.points.cloud import Cloud
    from becalm.points.formats import write
    from becalm.shapes.simulated_scan import simulate

    scan = simulate(np.random.default_rng(0))
    write(Cloud(scan.xyz, {"intensity": scan.intensity}), path)


def cloud_facts(cloud: Any) -> dict:
    """What the page says about a cloud: points, those without coordinates, where it stands and in which unit."""
    from becalm.points.units import length_unit

    counts = {"points": len(cloud), "measured": int(cloud.measured.sum())}
    return counts | {"origin": cloud.origin.tolist(), "unit": length_unit(cloud).symbol}


def summary_rows(result: Any, unit: Any) -> Iterator[tuple[str, str]]:
    """The figures beside the picture: what is measured, and how much it is, lengths in a `Unit`."""
    from becalm.points.units import format_length

    report, parts = result.report, ("– of single points (white)", "– shared by neighbours")

    def length(value: float) -> str:
        return format_length(value, unit)

    yield "Points", f"{report.points:,}"
    if report.missing:
        yield "Without coordinates", f"{report.missing:,}"
    for axis, step in report.steps.items():
        yield f"Grid of coordinates, {axis}", length(step)
    yield "Noise before", length(report.noise_before)
    if report.noise_shared is not None:
        white = max(report.noise_before**2 - report.noise_shared**2, 0) ** 0.5
        yield from zip(parts, (length(white), length(report.noise_shared)), strict=True)
    yield "– in 90 % of the points", f"{length(report.noise_low)} to {length(report.noise_high)}"
    yield "Noise expected after" if expects_noise(result) else "Roughness after", length(report.noise_after)
    if report.noise_shared is not None and expects_noise(result):
        yield from ((part, "not known") for part in parts)
    yield "Moved, half of the points at most", length(report.displacement_median)
    yield "Moved, 95 % of the points at most", length(report.displacement_95)
    yield "Moved, farthest", length(report.displacement_max)
    yield "Points not moved", f"{report.unmoved:,}"
    if report.off_surface is not None:
        yield "Points of no surface", f"{report.off_surface:,}"
    done = {"keep": "", "flag": " flagged", "remove": " removed"}[result.options.outliers]
    yield f"Outliers{done}", f"{report.outliers:,}" if done else "not looked for"


def expects_noise(result: Any) -> bool:
    """Whether the figure of the noise after denoising is the model's own estimate."""
    return result.progress.error is not None and result.report.displacement_max > 0


def summary_notes(result: Any) -> Iterator[str]:
    """What the figures do not tell."""
    if result.report.noise_shared is None:
        yield "This model does not estimate how much of the noise neighbouring points share."
    elif expects_noise(result):
        yield "Of the noise after cleaning the model estimates the whole, not its two parts."
    if not expects_noise(result):
        yield "Roughness: how far points lie off the surface through their neighbours."
    if result.options.outliers == "keep":
        yield "To find outliers, choose to flag or remove them under “How to clean”."


def show_trajectory(folder: Path, path: Path, task: dict, say: Say, warn: Callable[[str], object]) -> None:
    """Show a run that `becalm denoise --record` has written."""
    import numpy as np

    from becalm.core import trajectory
    from becalm.core.files import InputError
    from becalm.page.bundle import bundle_arrays, write_bundle
    from becalm.points.cloud import Cloud

    run = trajectory.read(path)
    if run.z.shape[1] != 1 or run.z.shape[3] != 3:
        raise InputError(f"{path}: holds z {list(run.z.shape)}, no run over one cloud of points")
    origin = np.asarray(run.facts.get("origin", (0, 0, 0)), np.float64)
    states = [z[0].double().numpy() + origin for z in run.z]
    cloud = Cloud(states[0], origin=origin)
    moved = np.linalg.norm(states[-1] - states[0], axis=1)
    write_bundle(folder / "run.safetensors", bundle_arrays(cloud, states, {"displacement": moved}), cloud_facts(cloud))
    say(run=True)


if __name__ == "__main__":
    main()
