"""Images measured for the page: bits of each, where in the image they go, the schedule, and the loss over the noise level."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core.files import atomic_file
from becalm.tasks.pixel_cost import PixelCost

MAX_IMAGES = 256
"""Images that are measured at a time, at most."""

MADE, MADE_STEPS = 12, 40
"""Images that the model makes as examples, and the steps that it takes: fewer than by default, so that nobody waits long."""


def measure_images(
    folder: Path, path: Path, task: dict, say: Callable[..., None], warn: Callable[[str], object]
) -> None:
    """Measure the images of a file, or examples; write the facts, the pictures and a table.

    frames.bin holds the brightness of all pixels, bytes [image, height, width, colour], then their bits, float32 [image, height,
    width].
    """
    from becalm.images.image_files import ImageFormat, read
    from becalm.page.puzzle_job import write_facts
    from becalm.systems.vdm import VDM
    from becalm.tasks import pixel_cost
    from becalm.tasks.shapes import load_on

    options, share = task["options"], 0.0
    model = load_on(options["model"], "cpu", VDM)
    height, width, colours = model.shape
    form = ImageFormat(height, width, colours, model.levels)
    if options["examples"]:
        share = 0.5
        for done, examples in make_examples(model, options["seed"]):
            say(done=share * done)
        names, images = list(examples), np.stack(list(examples.values()))
    else:
        found = read(path, form)
        if len(found) > MAX_IMAGES:
            warn(f"{len(found):,} images are in the file; the first {MAX_IMAGES} are measured")
        images, names = found.values[:MAX_IMAGES].numpy(), list(found.names[:MAX_IMAGES])
    for report in pixel_cost.steps(model, images, options["draws"], 32, options["seed"]):
        say(done=share + (1 - share) * 0.99 * report.done)
    cost = report.result
    write_facts(folder, cost_facts(cost, names, form, options["model"]))
    (folder / "frames.bin").write_bytes(
        form.brightness[images].astype(np.uint8).tobytes() + cost.bits.astype("<f4").tobytes()
    )
    output = folder / task["output"]
    write_table(output, names, cost)
    say(run=True, done=1.0, bytes=output.stat().st_size)


def make_examples(model: Any, seed: int) -> Iterator[tuple[float, dict[str, np.ndarray]]]:
    """Progress and named images: some that the model makes, and some of them spoilt, which should cost more."""
    from becalm.tasks import generate

    sampler = replace(model.default_sampler, steps=MADE_STEPS)
    for report in generate.steps(model, MADE, sampler=sampler, seed=seed):
        yield report.done, {}
    made, rng = report.result.images, np.random.default_rng(seed)
    top, (height, width) = model.levels - 1, model.shape[:2]
    noisy = np.clip(made[2] + rng.normal(0, 0.15 * top, made[2].shape), 0, top).round().astype(made.dtype)
    shuffled = rng.permutation(made[3].reshape(height * width, -1)).reshape(made[3].shape)
    block = made[5].copy()
    block[height // 4 : height // 2, width // 4 : width // 2] = (
        top - block[height // 4 : height // 2, width // 4 : width // 2]
    )
    spoilt = {"upside down": made[0][::-1], "mirrored": made[1][:, ::-1], "with noise": noisy, "shuffled": shuffled}
    spoilt |= {"moved": np.roll(made[4], width // 4, 1), "with a patch inverted": block, "negative": top - made[6]}
    yield 1.0, {f"made, {i + 1}": image for i, image in enumerate(made)} | spoilt


def cost_facts(cost: PixelCost, names: list[str], form: Any, model: str) -> dict[str, Any]:
    """What the page says and plots."""
    bits = cost.bits_per_dim
    error = float(bits.std(ddof=1) / len(bits) ** 0.5) if len(bits) > 1 else None
    facts: dict[str, Any] = {
        "model": model,
        "names": names,
        "bits": bits.tolist(),
        "mean": float(bits.mean()),
        "error": error,
    }
    facts |= {"height": form.height, "width": form.width, "colours": form.colours, "levels": form.levels}
    return facts | {"schedule": cost.schedule.tolist(), "loss": cost.loss_curve().tolist()}


def write_table(path: Path, names: list[str], cost: PixelCost) -> None:
    """Write a CSV file with a line an image: name, bits a dimension."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "bits_per_dim"])
        rows.writerows(zip(names, cost.bits_per_dim.tolist(), strict=True))
