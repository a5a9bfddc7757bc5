"""The command `becalm`: one thin file a command, results on standard output, progress on standard error.

Exit status: 0 done, 1 the input is at fault (one line says which file, which field, what to do), 2 wrong usage.
"""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    import tyro

    from becalm.cli import train
    from becalm.cli.complete import Complete
    from becalm.cli.compress import Compress
    from becalm.cli.decompress import Decompress
    from becalm.cli.denoise import Denoise
    from becalm.cli.evaluate import Evaluate
    from becalm.cli.generate import Generate
    from becalm.cli.importing import Import
    from becalm.cli.info import Info
    from becalm.cli.interpolate import Interpolate
    from becalm.cli.likelihood import Likelihood
    from becalm.cli.models import Models
    from becalm.cli.solve import Solve
    from becalm.cli.vary import Vary

    asked = sys.argv[1:] if arguments is None else arguments
    commands = {
        "denoise": Denoise,
        "solve": Solve,
        "generate": Generate,
        "complete": Complete,
        "interpolate": Interpolate,
        "vary": Vary,
        "likelihood": Likelihood,
        "compress": Compress,
        "decompress": Decompress,
        "info": Info,
        "models": Models,
        "import": Import,
        "train": train.command() if asked[:1] == ["train"] else train.Train,  # recipes are slow to import
        "evaluate": Evaluate,
    }
    command = tyro.extras.subcommand_cli_from_dict(
        commands,  # type: ignore[arg-type]
        prog="becalm",
        description="Denoising models over sets of continuous variables: clean a scan, solve a puzzle, and see what was done.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    sys.exit(guarded(command))


EXTRAS = {"PIL": "images", "matplotlib": "plots", "skimage": "mesh"}
"""Packages that a part of the commands needs, and the extra that brings them."""


def guarded(command) -> int:
    """Run a parsed command; an input at fault becomes one line and exit status 1, an interruption 130."""
    from becalm.core.files import InputError, check_png_name

    try:
        check_png_name(getattr(command, "picture", None))
        if not 0 <= getattr(command, "seed", 0) < 2**63:
            raise InputError(f"--seed {command.seed}: must be from 0 to 2⁶³ − 1")
        command.run()
    except (InputError, OSError) as error:
        place = isinstance(error, OSError) and (error.filename2 or error.filename)
        said = f"{place}: {error.strerror}" if place else str(error)  # type: ignore[union-attr]
        print(" ".join(said.split()), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        print(
            f"{package} is not installed, and this needs it: pip install 'becalm[{EXTRAS[package]}]'", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0
