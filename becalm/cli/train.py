"""becalm train: run a recipe."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import tyro

from becalm.core.files import InputError


def command() -> Callable:
    """A sub-command a recipe; each recipe's fields are its options."""
    from becalm.recipes import (
        ddpm,
        digits8,
        ebm_toy,
        image_srm,
        jets,
        lion,
        lion_rivals,
        painter,
        reader,
        sbd,
        spd,
        sudoku,
        vdm,
    )

    choices = (
        Annotated[jets.Recipe, tyro.conf.subcommand("jets", prefix_name=False)]
        | Annotated[sbd.Recipe, tyro.conf.subcommand("sbd", prefix_name=False)]
        | Annotated[digits8.Recipe, tyro.conf.subcommand("ncsn_digits8", default=digits8.NCSN, prefix_name=False)]
        | Annotated[digits8.Recipe, tyro.conf.subcommand("ebm_digits8", default=digits8.EBM, prefix_name=False)]
        | Annotated[ebm_toy.Recipe, tyro.conf.subcommand("ebm_toy", prefix_name=False)]
        | Annotated[image_srm.Recipe, tyro.conf.subcommand("even_pixels", default=image_srm.EVEN, prefix_name=False)]
        | Annotated[image_srm.Recipe, tyro.conf.subcommand("polygons", default=image_srm.COUNTED, prefix_name=False)]
        | Annotated[lion.Recipe, tyro.conf.subcommand("lion_families", default=lion.FAMILIES, prefix_name=False)]
        | Annotated[lion.Recipe, tyro.conf.subcommand("lion_ldraw", default=lion.LDRAW, prefix_name=False)]
        | Annotated[lion.Recipe, tyro.conf.subcommand("lion_gpu", default=lion.GPU, prefix_name=False)]
        | Annotated[
            lion_rivals.Recipe, tyro.conf.subcommand("lion_points", default=lion_rivals.POINTS, prefix_name=False)
        ]
        | Annotated[
            lion_rivals.Recipe, tyro.conf.subcommand("lion_dense", default=lion_rivals.DENSE, prefix_name=False)
        ]
        | Annotated[spd.Recipe, tyro.conf.subcommand("spd", prefix_name=False)]
        | Annotated[painter.Recipe, tyro.conf.subcommand("painter", prefix_name=False)]
        | Annotated[reader.Recipe, tyro.conf.subcommand("reader14", prefix_name=False)]
        | Annotated[sudoku.Recipe, tyro.conf.subcommand("sudoku4", default=sudoku.SMALL, prefix_name=False)]
        | Annotated[sudoku.Recipe, tyro.conf.subcommand("sudoku9", default=sudoku.LARGE, prefix_name=False)]
        | Annotated[ddpm.Recipe, tyro.conf.subcommand("ddpm_digits8", default=ddpm.DIGITS8, prefix_name=False)]
        | Annotated[vdm.Recipe, tyro.conf.subcommand("digits8", default=vdm.DIGITS8, prefix_name=False)]
        | Annotated[vdm.Recipe, tyro.conf.subcommand("mnist", default=vdm.MNIST, prefix_name=False)]
        | Annotated[vdm.Recipe, tyro.conf.subcommand("cifar10", default=vdm.CIFAR10, prefix_name=False)]
        | Annotated[vdm.Recipe, tyro.conf.subcommand("swirl", default=vdm.SWIRL, prefix_name=False)]
    )

    def train(recipe: tyro.conf.OmitSubcommandPrefixes[choices]) -> "Training":  # type: ignore[valid-type]
        """Run a recipe; where its folder holds an earlier run, that one continues."""
        runs = {
            digits8.Recipe: digits8.run,
            ebm_toy.Recipe: ebm_toy.run,
            jets.Recipe: jets.run,
            lion.Recipe: lion.run,
            lion_rivals.Recipe: lion_rivals.run,
            sbd.Recipe: sbd.run,
            spd.Recipe: spd.run,
            sudoku.Recipe: sudoku.run,
            painter.Recipe: painter.run,
            reader.Recipe: reader.run,
            vdm.Recipe: vdm.run,
            ddpm.Recipe: ddpm.run,
            image_srm.Recipe: image_srm.run,
        }
        return Training(recipe, runs[type(recipe)])

    return train


@dataclass(frozen=True)
class Train:
    """Run a recipe; where its folder holds an earlier run, that one continues."""


class Training:
    """A recipe that is about to run."""

    def __init__(self, recipe, work: Callable):
        self.recipe, self.work = recipe, work

    def run(self) -> None:
        """Show a line a record; the log in the run's folder has them all. What a recipe cannot do is the input's fault."""
        if getattr(self.recipe, "batch", 1) < 1:
            raise InputError(f"--batch {self.recipe.batch}: must be at least 1")
        try:
            for record in self.work(self.recipe):
                print(json.dumps(record), flush=True)
        except ValueError as error:
            raise InputError(str(error)) from error
