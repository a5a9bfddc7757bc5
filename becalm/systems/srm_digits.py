"""SRM on cells that show handwritten digits: beside its pixels, every settled cell is seen as a digit classifier reads it.

A token's own layers recognise the clearest digits only; convolutions read nearly all. The classifier is trained beforehand
(`recipes/reader.py`) and stays as it is.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.digit_classifier import DigitClassifier
from becalm.nets.transformer import Shape, Transformer
from becalm.systems.srm import SRM, SRMConfig, place_kinds


@dataclass(frozen=True)
class DigitSRMConfig(SRMConfig):
    """What a DigitSRM is built from."""

    reader: list[int] = field(default_factory=lambda: [14, 32])
    """Side and width of its digit classifier (`nets.digit_classifier`)."""
    digits: int = 9
    """Digits that cells can show, 1 to this number."""


class DigitSRM(SRM):
    """SRM whose network gets, after a variable's numbers, the probabilities of its digit where t = 0 and zeros elsewhere."""

    Config: ClassVar[type[SRMConfig]] = DigitSRMConfig
    reader: DigitClassifier
    """The digit classifier, in evaluation mode, its weights fixed."""

    @classmethod
    def build(cls, **fields: Any) -> "DigitSRM":
        """The model of a configuration, given by its fields (`DigitSRMConfig`)."""
        made = super().build(**fields)
        made.reader = DigitClassifier(*cls.Config(**fields).reader).eval().requires_grad_(False)  # type: ignore[attr-defined]
        return made  # type: ignore[return-value]

    @classmethod
    def build_network(cls, config: DigitSRMConfig) -> nn.Module:
        """A transformer over the variables, its input wider by the probabilities."""
        tables, axes = place_kinds(config.places)
        channels, shape = config.channels, Shape(*config.shape)
        return Transformer(channels + config.digits, 2 * channels + 1, tables, axes, shape)

    def train(self, mode: bool = True) -> "DigitSRM":
        """Training mode for all but the digit classifier."""
        super().train(mode)
        self.reader.eval()
        return self

    def inputs(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"]
    ) -> Float[Tensor, "batch variable input"]:
        """z, then the probabilities of the digits from 1 in settled variables."""
        z, settled = z.float(), t[..., 0] == 0
        read = z.new_zeros(*z.shape[:2], self.config["digits"])  # type: ignore[index]
        with torch.no_grad():
            read[settled] = self.reader(z[settled])[:, 1 : 1 + read.shape[-1]].exp()
        return torch.cat([z, read], -1)


def with_reader(model: SRM, reader: DigitClassifier, digits: int) -> DigitSRM:
    """A DigitSRM that predicts what `model` does until it is trained: its weights, and none yet for the probabilities."""
    made = DigitSRM.build(**(model.config or {}), reader=list(reader.config.values()), digits=digits)
    state = model.state_dict()
    name = "network.enter.0.weight"
    state[name] = nn.functional.pad(state[name], (0, digits))
    state |= {f"reader.{key}": value for key, value in reader.state_dict().items()}
    made.load_state_dict(state)
    return made
