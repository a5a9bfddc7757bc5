"""Kills `becalm denoise`, its workers and a training at random moments, and holds the results against undisturbed runs.

    python benchmarks/faults.py --kills 20 --trainings 50

After each kill of the command the same command is given again. All points have to be there, byte for byte, and nothing may be
left behind. After each kill of a training its folder has to be readable, and at the end the model is the undisturbed one's.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from scale import write_terrain


def fork(function: Callable, *arguments) -> BaseProcess:
    """Begin a function in a copy of this process, which has all modules loaded."""
    process = get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def denoise(scan: Path, output: Path, points: int) -> None:
    """The command, without what it prints."""
    from becalm import cli

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    options = ["--tile", str(max(points // 8, 1000)), "--workers", "2", "--force", "--json"]
    cli.main(["denoise", str(scan), "-o", str(output), *options])


def workers(pid: int) -> list[int]:
    """The processes that a process has begun, in any of its threads."""
    try:
        tasks = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    begun = [int(word) for text in tasks for word in text.split()]
    return [number for number in begun if b"spawn_main" in command_line(number)]


def command_line(number: int) -> bytes:
    """The command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


def kill_after(process: BaseProcess, seconds: float, of_worker: bool = False) -> bool:
    """Kill a run, or one of its workers, after so many seconds; whether there was one."""
    process.join(seconds)
    if process.exitcode is not None or process.pid is None:
        return False
    begun = workers(process.pid)
    victims = begun if of_worker else [process.pid]
    if victims:
        os.kill(random.choice(victims), signal.SIGKILL)
    while not of_worker and any(command_line(pid) for pid in begun):
        time.sleep(0.05)  # workers end with the command
    return bool(victims)


def kill_denoising(folder: Path, kills: int, points: int) -> int:
    """The number of faults after so many kills of a worker, and as many of the command."""
    scan, whole, output = (folder / f"{stem}.laz" for stem in ("scan", "whole", "out"))
    write_terrain(scan, points)
    started = time.time()
    fork(denoise, scan, whole, points).join()
    length, faults, done = time.time() - started, 0, {True: 0, False: 0}
    print(f"undisturbed: {length:.1f} seconds", flush=True)
    while min(done.values()) < kills or not output.exists():
        of_worker = done[True] <= done[False]
        process = fork(denoise, scan, output, points)
        if min(done.values()) < kills:
            done[of_worker] += kill_after(process, random.uniform(0.1, 0.9) * length, of_worker)
        process.join()
        faults += process.exitcode not in (0, -signal.SIGKILL)
        if process.exitcode == 0:
            faults += output.read_bytes() != whole.read_bytes()
            if min(done.values()) < kills:
                output.unlink()
        print(f"killed: {done[True]} workers, {done[False]} commands; faults: {faults}", flush=True)
    left = [path.name for path in folder.iterdir() if path not in (scan, whole, output)]
    print(f"killed: {done[True]} workers, {done[False]} commands; faults: {faults}; left behind: {left}", flush=True)
    return faults + len(left)


def train(folder: Path, data: Path) -> None:
    """A small training that saves its state after every step."""
    import becalm

    sizes = {"batch": 8, "width": 8, "heads": 2, "depth": 1, "times": "independent"}
    becalm.train("srm", run=folder, data=data, steps=60, save_every=1, log_every=1, **sizes)


def is_readable(run: Path) -> bool:
    """Whether a killed run's folder has whole states, a whole log but for its last line, and a whole record of its recipe."""
    from becalm.training.state import load_state

    with warnings.catch_warnings(action="error"):
        load_state(run)
    lines = (run / "log.jsonl").read_text().split("\n") if (run / "log.jsonl").exists() else []
    for line in lines[:-1]:
        json.loads(line)
    return not (run / "recipe.json").exists() or bool(json.loads((run / "recipe.json").read_text()))


def kill_training(folder: Path, kills: int) -> int:
    """The number of faults after so many kills of a training, which is continued after each."""
    import numpy as np

    data, whole, run = folder / "data.npz", folder / "whole", folder / "run"
    np.savez(data, x=np.random.default_rng(0).standard_normal((64, 5, 2)))
    started = time.time()
    fork(train, whole, data).join()
    length, faults, done, finished = time.time() - started, 0, 0, 0
    while done < kills or not finished:
        process = fork(train, run, data)
        if done < kills:
            done += kill_after(process, random.uniform(0, 0.6) * length)
        process.join()
        if process.exitcode == 0:
            same = (run / "srm.safetensors").read_bytes() == (whole / "srm.safetensors").read_bytes()
            faults, finished = faults + (not same), finished + 1
            run.rename(folder / f"finished{finished}")
        else:
            faults += process.exitcode != -signal.SIGKILL or (run.exists() and not is_readable(run))
    print(f"killed: {done} trainings, of which {finished} came to their end; faults: {faults}", flush=True)
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3, help="kills of a worker, and as many of the command")
    parser.add_argument("--points", type=int, default=4_000)
    parser.add_argument("--trainings", type=int, default=10, help="kills of a training")
    options = parser.parse_args()
    random.seed(0)
    import becalm.tasks.train

    becalm.train, becalm.load("jets")  # all that a run imports is there before the first copy
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        faults = kill_training(Path(other), options.trainings) if options.trainings else 0
        faults += kill_denoising(Path(name), options.kills, options.points) if options.kills else 0
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
