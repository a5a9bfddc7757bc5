"""Kills `becalm denoise`, and its workers, at random moments, and holds the result against that of an undisturbed run.

    python benchmarks/faults.py --kills 3 --points 20000

After each kill of the command the same command is given again. All points have to be there, byte for byte, and nothing may be
left behind.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scale import write_terrain


def command(scan: Path, output: Path, points: int) -> list[str]:
    options = ["--tile", str(max(points // 8, 1000)), "--workers", "2", "--force", "--json"]
    return [sys.executable, "-m", "becalm", "denoise", str(scan), "-o", str(output), *options]


def children(pid: int) -> list[int]:
    """The processes that a process has begun."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill_after(process: subprocess.Popen, seconds: float, worker: bool) -> bool:
    """Kill a run, or one of its workers, after so many seconds; whether it was still there."""
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        pass
    victims = children(process.pid) if worker else [process.pid]
    if victims:
        os.kill(random.choice(victims), signal.SIGKILL)
    return bool(victims)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3, help="kills of a worker, and as many of the command")
    parser.add_argument("--points", type=int, default=20_000)
    options = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan, whole, output = (folder / f"{stem}.laz" for stem in ("scan", "whole", "out"))
        write_terrain(scan, options.points)
        started = time.time()
        subprocess.run(command(scan, whole, options.points), check=True, stdout=subprocess.DEVNULL)
        length, faults, kills = time.time() - started, 0, {True: 0, False: 0}
        print(f"undisturbed: {length:.1f} seconds")
        while min(kills.values()) < options.kills:
            worker = kills[True] <= kills[False]
            process = subprocess.Popen(command(scan, output, options.points), stdout=subprocess.DEVNULL)
            kills[worker] += kill_after(process, random.uniform(0.2, 0.9) * length, worker)
            process.wait()
            if process.returncode == 0:
                faults += output.read_bytes() != whole.read_bytes()
                output.unlink()
        subprocess.run(command(scan, output, options.points), check=True, stdout=subprocess.DEVNULL)
        faults += output.read_bytes() != whole.read_bytes()
        left = [path.name for path in folder.iterdir() if path not in (scan, whole, output)]
        print(
            f"killed: {kills[True]} workers, {kills[False]} commands; other bytes {faults} times; left behind: {left}"
        )
        sys.exit(bool(faults or left))


if __name__ == "__main__":
    main()
