"""Networks as ONNX files, which run in other programs and languages: `becalm.export("mnist", "mnist.onnx")`.

An exported network is one evaluation of a denoiser, without the sampling around it and, for clouds, without the search for
neighbours and the local fits before it: their results are its inputs.
"""

import json
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Tensor
from becalm.systems.jets import Jets
from becalm.systems.jets_fits import FittedCloud, fit_cloud
from becalm.systems.spd import PATCH_SIZE, SPD
from becalm.systems.srm import SRM
from becalm.systems.vdm import VDM
from becalm.weights.store import load, model_words

OPSET = 18
"""Version of ONNX's operators."""

LEAST_POINTS = 32
"""Points of a cloud from which on all have as many neighbours as the networks ask for."""


@dataclass(frozen=True)
class Exported:
    """A network's file and what it takes and gives: shapes by name, with the names of the sizes that may vary."""

    path: Path
    inputs: dict[str, list[int | str]]
    outputs: list[str]


@dataclass(frozen=True)
class Network:
    """A module of tensors with an example of its inputs."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """Examples by name."""
    sizes: dict[str, dict[int, str]]
    """By input, the axes whose size may vary, and the names of these sizes."""
    outputs: list[str]


class DenoiserNetwork(nn.Module):
    """x and ε of noisy variables, and the logarithm of the error's variance where the model knows it."""

    def __init__(self, model: VDM | SRM):
        super().__init__()
        self.denoiser = model.denoiser() if isinstance(model, SRM) else model.denoiser

    def forward(self, z: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        """z [batch, variable, channel] at noise levels t."""
        found = self.denoiser(z, t)
        return (found.x, found.eps) if found.log_var is None else (found.x, found.eps, found.log_var)


class CloudNetwork(nn.Module):
    """The outputs of `Jets` from the local fits of a cloud, as `fit_cloud` makes them."""

    def __init__(self, model: Jets, graph: type):
        super().__init__()
        self.model, self.graph = model, graph

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The fields of the graph, features, candidates and σ."""
        *graph, features, candidates, sigma = inputs
        return tuple(self.model(FittedCloud(self.graph(*graph), features, candidates), sigma))


def network_of(model: nn.Module) -> Network:
    """The network of a denoiser with an example of its inputs, whose sizes come from the model. Raises InputError for others."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, Jets):
        cloud = fit_cloud(torch.randn(70, 3, generator=generator).double().numpy())
        inputs = {**cloud.graph._asdict(), "features": cloud.features, "candidates": cloud.candidates}
        inputs["sigma"] = torch.full((70,), torch.nan)
        with torch.no_grad():
            outputs = list(model(cloud, inputs["sigma"])._fields)
        sizes = {name: {0: "points"} for name in inputs}
        return Network(CloudNetwork(model, type(cloud.graph)), inputs, sizes, outputs)
    if isinstance(model, SPD):
        patches, places = (torch.randn(shape, generator=generator) for shape in ((2, PATCH_SIZE, 3), (2, 5, 4, 3)))
        sizes = {"patches": {0: "patch"}, "anchors": {0: "patch", 1: "anchor"}}
        sizes["places"] = {0: "patch", 1: "anchor", 2: "k"}
        anchors = torch.randint(PATCH_SIZE, (2, 5), generator=generator)
        return Network(model, {"patches": patches, "anchors": anchors, "places": places}, sizes, ["displacement"])
    if isinstance(model, VDM):
        return denoiser_network(model, model.shape[0] * model.shape[1], model.shape[2], 1)
    if isinstance(model, SRM) and model.places is not None:
        return denoiser_network(model, len(model.places), model.channels, len(model.places))
    raise InputError(
        f"{model_words(type(model))}: only denoisers of clouds (jets, spd) and images (vdm, srm) are exported"
    )


def denoiser_network(model: VDM | SRM, variables: int, channels: int, levels: int) -> Network:
    """The network of a denoiser of sets of so many variables, which have so many noise levels."""
    generator = torch.Generator().manual_seed(0)
    z, t = torch.randn(3, variables, channels, generator=generator), torch.rand(3, levels, 1, generator=generator)
    outputs = ["x", "eps", "log_var"] if isinstance(model, SRM) else ["x", "eps"]
    return Network(DenoiserNetwork(model), {"z": z, "t": t}, {"z": {0: "batch"}, "t": {0: "batch"}}, outputs)


def export(model: str | PathLike[str] | nn.Module, path: str | PathLike[str]) -> Exported:
    """Write the network of a denoiser of clouds or images to an ONNX file: one evaluation, of any batch.

    `model` is a packaged name, a file of weights or a loaded model. Raises InputError for other models and where the extra `onnx`
    is missing, OSError as the system does.
    """
    loaded = model if isinstance(model, nn.Module) else load(str(model))
    network = network_of(loaded.eval().requires_grad_(False))
    program = onnx_program(network)
    facts = {"model": type(loaded).__name__, "config": getattr(loaded, "config", None)}
    program.model.metadata_props["becalm"] = json.dumps(facts)
    with atomic_file(Path(path)) as temporary:
        program.save(temporary)
    inputs: dict[str, list[int | str]] = {
        name: [network.sizes[name].get(axis, size) for axis, size in enumerate(value.shape)]
        for name, value in network.inputs.items()
    }
    return Exported(Path(path), inputs, network.outputs)


def onnx_program(network: Network) -> Any:
    """The ONNX program of a network."""
    from torch.export import Dim

    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed, and this needs it: pip install 'becalm[onnx]'") from None
    names = {name for axes in network.sizes.values() for name in axes.values()}
    dims = {name: Dim(name, min=LEAST_POINTS) if name == "points" else Dim(name) for name in names}
    sizes = [{axis: dims[name] for axis, name in network.sizes[key].items()} for key in network.inputs]
    shapes = (tuple(sizes),) if isinstance(network.module, CloudNetwork) else tuple(sizes)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        traced = torch.export.export(
            network.module, tuple(network.inputs.values()), dynamic_shapes=shapes, strict=False
        )
        return torch.onnx.export(
            traced,
            input_names=list(network.inputs),
            output_names=network.outputs,
            opset_version=OPSET,
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )


def translations() -> dict[Any, Any]:
    """What ONNX has no operators for, in its operators."""
    from onnxscript import opset18

    op: Any = opset18

    def lower_median(values: Any, dim: int = -1, keepdim: bool = False) -> Any:
        """torch's median along an axis, the lower of two, and where it is."""
        half = (values.shape[dim] + 1) // 2
        low, places = op.TopK(values, op.Constant(value_ints=[half]), axis=dim, largest=0, sorted=1)
        last = op.Constant(value_ints=[half - 1]) if keepdim else op.Constant(value_int=half - 1)
        return op.Gather(low, last, axis=dim), op.Gather(places, last, axis=dim)

    def is_negative(values: Any) -> Any:
        """The sign bit, but for −0."""
        return op.Less(values, op.CastLike(op.Constant(value_float=0.0), values))

    return {torch.ops.aten.median.dim: lower_median, torch.ops.prims.signbit.default: is_negative}
