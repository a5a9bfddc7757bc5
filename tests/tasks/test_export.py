"""Exported networks give what the models give, also for other sizes than those that they were exported with."""

import numpy as np
import pytest
import torch

from becalm.core.files import InputError
from becalm.nets.mlp import Mlp
from becalm.systems.jets import Jets
from becalm.systems.jets_fits import fit_cloud
from becalm.systems.spd import PATCH_SIZE, SPD
from becalm.systems.srm import SRM
from becalm.systems.vdm import VDM, NetworkConfig
from becalm.tasks.export import export, network_of

MODELS = {
    "jets": lambda: Jets(width=16, layers=1),
    "spd": lambda: SPD(hidden=8, blocks=1),
    "vdm": lambda: VDM([4, 4, 1], 16, "levels", NetworkConfig("unet", {"widths": [8, 8], "depth": 1}, 1), features=4),
    "srm": lambda: SRM.build(channels=2, places=[[0], [1], [2], [3]], shape=[16, 2, 1, 1, 4]),
}


def other_inputs(name, model):
    generator = torch.Generator().manual_seed(1)
    if name == "jets":
        cloud = fit_cloud(np.random.default_rng(1).standard_normal((90, 3)))
        sigma = torch.full((90,), 0.1).index_fill(0, torch.arange(40), torch.nan)
        return [*cloud.graph, cloud.features, cloud.candidates, sigma]
    if name == "spd":
        anchors = torch.randint(PATCH_SIZE, (3, 7), generator=generator)
        return [
            torch.randn(3, PATCH_SIZE, 3, generator=generator),
            anchors,
            torch.randn(3, 7, 2, 3, generator=generator),
        ]
    z, t = network_of(model).inputs.values()
    return [torch.randn(5, *z.shape[1:], generator=generator), torch.rand(5, *t.shape[1:], generator=generator)]


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_network_gives_what_the_model_gives(tmp_path, name):
    import onnxruntime

    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():  # layers that begin at zero would hide faults
        torch.nn.init.normal_(parameter, std=0.2)
    made = export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(made.inputs)
    inputs = other_inputs(name, model)
    found = session.run(made.outputs, {key: value.numpy() for key, value in zip(made.inputs, inputs, strict=True)})
    with torch.no_grad():
        wanted = network_of(model).module(*inputs)
    for ours, theirs in zip(wanted if isinstance(wanted, tuple) else [wanted], found, strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-5, atol=1e-5)


def test_models_that_cannot_be_exported_are_refused():
    with pytest.raises(InputError, match=r"Mlp: only denoisers of clouds \(jets, spd\) and images"):
        network_of(Mlp(2, 2))
