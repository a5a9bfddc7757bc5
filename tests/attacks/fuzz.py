"""Damaged files for every reader, for as long as is asked: python -m tests.attacks.fuzz --seconds 600

Where atheris is installed it guides the changes by the lines that they reach; else they are random. What a reader neither reads
nor refuses in one line is kept in `fuzz/`, and belongs among the attacks.
"""

import argparse
import random
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

try:
    import atheris  # type: ignore[import-not-found]
except ModuleNotFoundError:
    atheris = None

with atheris.instrument_imports(include=["becalm"]) if atheris else nullcontext():
    from becalm.core.files import InputError
    from becalm.core.limits import Limits, limited_to
    from becalm.points import read
    from tests.attacks.test_total import SAMPLES
    from tests.points.formats import samples

SCANS = samples.OWN | {suffix: [samples.saved(suffix)] for suffix in samples.FOREIGN}
CORPUS = SAMPLES | {f"scan {i}{s}": (s, data, read) for s, files in SCANS.items() for i, data in enumerate(files)}
"""Suffix, valid bytes and reader by name."""


def damage(data: bytes, rng: random.Random) -> bytes:
    """Valid bytes with up to four places flipped, cut out, repeated, overwritten or cut off."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, width = rng.randrange(len(found) + 1), rng.choice((1, 2, 4, 8, 64))
        part = found[place : place + width]
        new = rng.choice((b"", part * 3, bytes(len(part)), b"\xff" * len(part), rng.randbytes(len(part)), b"9" * 9))
        found[place : place + width] = new
        if rng.random() < 0.05:
            del found[place:]
    return bytes(found)


def try_reader(name: str, data: bytes, folder: Path) -> None:
    """Give bytes to a reader; what it neither reads nor refuses in a line is kept."""
    suffix, _, reader = CORPUS[name]
    path = folder / f"file{suffix}"
    path.write_bytes(data)
    try:
        with limited_to(Limits(seconds=20.0)):
            reader(path)
    except (InputError, OSError) as error:
        assert "\n" not in str(error), name  # noqa: PT017
    except Exception:
        kept = Path("fuzz") / f"{name.replace(' ', '_')}-{abs(hash(data)):x}{suffix}"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(data)
        print(f"{name}: {kept}", file=sys.stderr)
        raise


def run_random(seconds: float, seed: int, folder: Path) -> None:
    """Random changes for so many seconds."""
    rng, end, count = random.Random(seed), time.time() + seconds, 0
    while time.time() < end:
        name = rng.choice(sorted(CORPUS))
        try_reader(name, damage(CORPUS[name][1], rng), folder)
        count += 1
    print(f"{count:,} files, each read or refused in one line")


def run_guided(seconds: float, folder: Path) -> None:
    """Changes that atheris chooses; the first byte of its data says which reader gets the others."""
    names, seeds = sorted(CORPUS), folder / "seeds"
    seeds.mkdir()
    for i, each in enumerate(names):
        (seeds / str(i)).write_bytes(bytes([i]) + CORPUS[each][1])

    def run_one(data: bytes) -> None:
        if data:
            try_reader(names[data[0] % len(names)], data[1:], folder)

    atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}", "-max_len=20000", str(seeds)], run_one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--random", action="store_true", help="random changes, also where atheris is installed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if atheris is None or options.random:
            run_random(options.seconds, options.seed, Path(folder))
        else:
            run_guided(options.seconds, Path(folder))


if __name__ == "__main__":
    main()
