"""The command `becalm`: one thin file a command, results on standard output, progress on standard error.

Exit status: 0 done, 1 the input is at fault (one line says which file, which field, what to do), 2 wrong usage.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    repair_streams()
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["--version"]:
        from becalm import __version__

        print(f"becalm {__version__}")
        sys.exit(0)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin keep other processes from working
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whatever is unfinished is removed on the way out
    sys.exit(run_command(parse(words)))


def repair_streams() -> None:
    """Let standard output and error show `\\u03c3` for what their encoding lacks, and lead nowhere where they are closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def commands(with_recipes: bool = True) -> dict[str, Any]:
    """Every command by name: a frozen dataclass of its options with a method `run`. Recipes take a moment to import."""
    from becalm.cli import train
    from becalm.cli.complete import Complete
    from becalm.cli.compress import Compress
    from becalm.cli.decompress import Decompress
    from becalm.cli.denoise import Denoise
    from becalm.cli.evaluate import Evaluate
    from becalm.cli.export import Export
    from becalm.cli.generate import Generate
    from becalm.cli.importing import Import
    from becalm.cli.info import Info
    from becalm.cli.interpolate import Interpolate
    from becalm.cli.likelihood import Likelihood
    from becalm.cli.models import Models
    from becalm.cli.solve import Solve
    from becalm.cli.tour import Tour
    from becalm.cli.vary import Vary
    from becalm.cli.view import Serve, View

    return {
        "denoise": Denoise,
        "solve": Solve,
        "generate": Generate,
        "complete": Complete,
        "interpolate": Interpolate,
        "vary": Vary,
        "likelihood": Likelihood,
        "compress": Compress,
        "decompress": Decompress,
        "view": View,
        "serve": Serve,
        "tour": Tour,
        "info": Info,
        "models": Models,
        "import": Import,
        "export": Export,
        "train": train.command() if with_recipes else train.Train,
        "evaluate": Evaluate,
    }


def parse(words: list[str]) -> Any:
    """The command that a command line asks for, an object with a method `run`; wrong usage exits with status 2."""
    import tyro

    from becalm.cli.usage import check_words, short_messages

    with short_messages(words):
        known = commands(with_recipes=words[:1] == ["train"])
        check_words(words, known)
        return tyro.extras.subcommand_cli_from_dict(
            known,  # type: ignore[arg-type]
            prog="becalm",
            description="Denoising models over sets of continuous variables: clean a scan, solve a puzzle, see what was done. "
            "`becalm --version` prints the version; `becalm --tyro-print-completion bash` a completion for the shell.",
            args=words,
            config=(tyro.conf.OmitArgPrefixes,),
        )


EXTRAS = {
    "PIL": "images",
    "matplotlib": "plots",
    "skimage": "mesh",
    "starlette": "page",
    "uvicorn": "page",
    "constriction": "compress",
}
"""Packages that a part of the commands needs, and the extra that brings them."""


def run_command(command: Any) -> int:
    """Run a parsed command and return the exit status; an input at fault becomes one line and 1, an interruption 130."""
    from becalm.core.files import InputError, check_png_name, list_written

    with list_written() as paths:
        try:
            check_png_name(getattr(command, "picture", None))
            if not 0 <= getattr(command, "seed", 0) < 2**63:
                raise InputError(f"--seed {command.seed}: must be from 0 to 2⁶³ − 1")
            command.run()
        except (InputError, OSError) as error:
            return fail(error_line(error))
        except (MemoryError, RuntimeError) as error:
            if not is_memory_error(error):
                raise
            return fail(memory_line(error, command))
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package not in EXTRAS:
                raise
            return fail(f"{package} is not installed, and this needs it: pip install 'becalm[{EXTRAS[package]}]'")
        except KeyboardInterrupt:
            own = command.interruption() if hasattr(command, "interruption") else None
            return fail(own or interruption(paths), 130)
    return 0


def fail(line: str, status: int = 1) -> int:
    """Print one line on standard error and return the exit status."""
    print(line, file=sys.stderr)
    return status


def is_memory_error(error: Exception) -> bool:
    """Whether an error says that there is not enough memory: NumPy's and Python's own, and torch's on any device."""
    return isinstance(error, MemoryError) or ("alloc" in str(error).lower() and "memory" in str(error).lower())


def memory_line(error: Exception, command: Any) -> str:
    """What was asked for, how much is free, and what to do."""
    from becalm.tasks.tiling import available_memory

    asked = " ".join(str(error).split())[:120] or "no more was to be had"
    hint = "; give a smaller --tile, fewer --workers, or say with --memory how much to take"
    free = f"{available_memory() / 2**30:.1f} GB are free"
    return f"out of memory: {asked}; {free}{hint if hasattr(command, 'memory') else ''}"


def error_line(error: Exception) -> str:
    """An error in one line that begins with the file, where there is one."""
    place = isinstance(error, OSError) and (error.filename2 or error.filename)
    line = f"{place}: {error.strerror}" if place else str(error)  # type: ignore[union-attr]
    return " ".join(line.split())


def interruption(paths: list[Path]) -> str:
    """What is said after an interruption: which outputs of the command are there already."""
    written = [str(path) for path in dict.fromkeys(paths) if path.exists()]
    return f"interrupted; written before: {', '.join(written)}" if written else "interrupted; nothing was written"
