"""VDM's claims, checked on small digits: each row one short seeded training of the same network, then its bound on test digits.

Prints a table and writes results/vdm.json; rows that are there are kept, so that a row is run again by taking it out. The claims
(Kingma et al. 2021, tables 1 and 2, § 4, appendix H): more steps give a lower bound; Fourier features help; a learned schedule
lowers the variance of the estimate and leaves its value; what is trained for T steps is best at T. Beside them the level-aware
head at the same CPU time.

    python benchmarks/vdm.py --seconds 120 [--digits digits8x8.npz] [--rows "eps, learned" …]
    python benchmarks/vdm.py --step          # CPU-seconds of a training step of VDM's own U-Net on CIFAR-sized images
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from becalm.core.files import atomic_file
from becalm.recipes import vdm
from becalm.systems.vdm import VDM, bound, images_to_variables
from becalm.training import average
from becalm.training.loop import learning_rate_at, make_optimiser

RESULTS = Path(__file__).parent / "results" / "vdm.json"
TIMESTEPS = (10, 100, 1000, None)
LEVELS = replace(vdm.DIGITS8, widths=(48, 96))
EPS = replace(LEVELS, head="eps", gamma_min=-8.0)

ROWS = {
    "levels": LEVELS,
    "levels, no Fourier features": replace(LEVELS, octaves=0),
    "levels, least variance": replace(LEVELS, schedule="least variance"),
    "levels, trained at T = 10": replace(LEVELS, timesteps=10),
    "eps": EPS,
    "eps, no Fourier features": replace(EPS, octaves=0),
    "eps, learned linear": replace(EPS, schedule="learned linear"),
    "eps, learned": replace(EPS, schedule="learned"),
    "eps, least variance": replace(EPS, schedule="least variance"),
    "eps, trained at T = 10": replace(EPS, timesteps=10),
    "eps, trained at T = 100": replace(EPS, timesteps=100),
}
"""What is trained, by name."""


def train_model(recipe: vdm.Recipe, images: torch.Tensor, seconds: float) -> tuple[VDM, int]:
    """The averaged model after so many CPU-seconds of this process, and its steps.

    The learning rate follows its cosine in time rather than steps, so that a slow row gets the whole of it as well.
    """
    model, plan = vdm.build_model(recipe, images).train(), replace(recipe.plan, steps=10**6, warmup=0)
    optimiser, kept = make_optimiser(model, plan), average.copy_weights(model)
    began, step = time.process_time(), 0
    while (gone := (time.process_time() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(plan, int(gone * plan.steps)) * min(1.0, (step + 1) / recipe.plan.warmup)
        with torch.autocast("cpu", torch.bfloat16):
            loss = vdm.loss(recipe, model, vdm.sample_batch(recipe, model, images, step))["loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.gradient_clip)
        optimiser.step()
        average.update_average(kept, model, plan.ema_decay, step)
        step += 1
    model.load_state_dict(kept)
    return model.eval(), step


def row(recipe: vdm.Recipe, data: vdm.TrainTest, seconds: float, draws: int) -> dict:
    """One training, its bound for each T, and the variance of a single draw's diffusion term over times and noise."""
    model, steps = train_model(recipe, data.train, seconds)
    bits = {str(count or "∞"): vdm.evaluate_bound(model, data.test, count, draws) for count in TIMESTEPS}
    ends = [round(float(gamma), 3) for gamma in model.schedule(torch.tensor([0.0, 1.0])).gamma.detach()]
    values = {"steps": steps, "seconds": seconds, "draws": draws, "gamma": ends, "bits_per_dim": bits}
    settings = {
        name: value for name, value in asdict(recipe).items() if name not in ("digits", "run", "plan", "device")
    }
    return values | {"variance": variance(model, data.test, draws), "recipe": settings}


@torch.no_grad()
def variance(model: VDM, images: torch.Tensor, draws: int) -> float:
    """Mean over images of the variance of ℓ = ½γ′m at independent t and ε, (bits a dimension)², in continuous time."""
    generator, v = torch.Generator().manual_seed(1), images_to_variables(model, images)
    with torch.autocast("cpu", torch.bfloat16):
        bounds = [bound(model, v, None, 1, generator) for _ in range(4 * draws)]
    nats = torch.stack([one.diffusion for one in bounds]) / (bounds[0].dimensions * math.log(2))
    return round(float(nats.var(0).mean()), 5)


def step_seconds(head: str, bfloat16: bool, times: int = 5) -> float:
    """CPU-seconds of a training step of VDM's U-Net, C = 64, n = 4, on 16 images of 32 × 32 × 3: median of some."""
    recipe = replace(vdm.CIFAR10, network="flat", widths=(64,), depth=4, dropout=0.0, batch=16, head=head)  # type: ignore[arg-type]
    images = torch.randint(256, (64, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    model, spent = vdm.build_model(recipe, images).train(), []
    optimiser = make_optimiser(model, recipe.plan)
    for step in range(times + 1):
        began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = vdm.loss(recipe, model, vdm.sample_batch(recipe, model, images, step))["loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.plan.gradient_clip)
        optimiser.step()
        spent.append(time.process_time() - began)
    return round(statistics.median(spent[1:]), 3)


def table(rows: dict[str, dict]) -> str:
    """The rows as text."""
    columns = [str(count or "∞") for count in TIMESTEPS]
    lines = [
        " | ".join(
            ["row".ljust(28), *(f"T = {c}".rjust(8) for c in columns), "± (∞)", "variance", "γ(0)", "γ(1)", "steps"]
        )
    ]
    for name, values in rows.items():
        bits = [f"{values['bits_per_dim'][count]['total']:8.3f}" for count in columns]
        low, high = values["gamma"]
        error = values["bits_per_dim"]["∞"]["error"]
        lines.append(
            " | ".join(
                [
                    name.ljust(28),
                    *bits,
                    f"{error:.3f}",
                    f"{values['variance']:8.4f}",
                    f"{low:.2f}",
                    f"{high:.2f}",
                    f"{values['steps']}",
                ]
            )
        )
    return "\n".join(lines)


def write_results(results: dict) -> None:
    """Write the results."""
    with atomic_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False))


def main() -> None:
    """Run the rows that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="CPU-seconds of training a row")
    parser.add_argument("--draws", type=int, default=8, help="times and noises an image in measuring")
    parser.add_argument("--digits", type=Path, help="digits8 as an .npz, where scikit-learn is not installed")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), help="which rows; all by default")
    parser.add_argument("--step", action="store_true", help="time a training step of VDM's U-Net, and nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    if arguments.step:
        pairs = [(head, name) for head in ("eps", "levels") for name in ("bfloat16", "float32")]
        results["step_seconds"] = {f"{head}, {name}": step_seconds(head, name == "bfloat16") for head, name in pairs}
        print(json.dumps(results["step_seconds"], indent=1))
        write_results(results)
        return
    data = vdm.load_images(replace(vdm.DIGITS8, digits=arguments.digits))
    for name in arguments.rows:
        if name in results["rows"]:
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        results["rows"][name] = row(ROWS[name], data, arguments.seconds, arguments.draws)
        results["machine"] = {"torch": torch.__version__, "processor": platform.machine(), "threads": 1}
        write_results(results)
    print(table({name: results["rows"][name] for name in ROWS if name in results["rows"]}))


if __name__ == "__main__":
    main()
