"""Little networks of every kind that can be quantized, on the int8 grid and as ONNX, made once a session."""

from __future__ import annotations

from functools import cache

import onnx
import torch
from torch import Tensor, fx

from deploy.export.checkpoint_to_onnx import to_onnx
from deploy.export.qdq import SPELLINGS, store_integer_weights
from edgekp.contract import Contract
from optimize.calibration import calibrate
from optimize.ptq import set_weight_scales
from tests import tiny
from train.models import quantized
from train.models.quantized import insert_fake_quantizers

HW = (64, 64)
HRNET = tiny.Model("hrnet_lite", options={"width": 8, "branches": 2, "blocks": 1, "modules": 1})
NARROW, FEW = {"width": 8}, {"channels": 16}
NETWORKS = {
    "hrnet_lite": tiny.recipe(model=HRNET),
    "hrnet_lite, simcc": tiny.recipe(model=HRNET, codec="simcc"),
    "mobilefacenet, integral": tiny.recipe(HW, tiny.FACENET, "regression"),
    "resnet, deconv, offset": tiny.recipe(
        model=tiny.Model("resnet", options=NARROW, neck="deconv", neck_options=FEW), codec="offset"),
    "resnet, fpn, offset": tiny.recipe(
        model=tiny.Model("resnet", options=NARROW, neck="fpn", neck_options=FEW), codec="offset"),
    "unet": tiny.recipe(model=tiny.Model("unet", options=NARROW)),
    "lite_hrnet": tiny.recipe(model=tiny.Model("lite_hrnet", options={"width": 16, "branches": 2})),
    "mobilenet_v3, deconv": tiny.recipe(model=tiny.Model("mobilenet_v3", neck="deconv", neck_options=FEW)),
    "shufflenet_v2, fpn": tiny.recipe(model=tiny.Model("shufflenet_v2", neck="fpn", neck_options=FEW)),
    "pfld": tiny.recipe(HW, tiny.Model("pfld"), "regression"),
}


@cache
def on_the_grid(name: str) -> tuple[fx.GraphModule, Contract, Tensor]:
    """A network with fake quantizers, its contract, and the inputs that it was calibrated with. Not to be changed."""
    torch.manual_seed(0)
    net, spec, contract = tiny.network(NETWORKS[name])
    assert isinstance(contract, Contract)
    grid = quantized(spec, ("head.output",)).quantization
    assert grid is not None
    rounded = insert_fake_quantizers(net, grid)
    set_weight_scales(rounded)
    x = torch.randn(8, 3, *HW, generator=torch.Generator().manual_seed(1))
    calibrate(rounded, x, "minmax")
    return rounded.eval(), contract, x


@cache
def _exported(name: str) -> onnx.ModelProto:
    net, contract, _ = on_the_grid(name)
    model = to_onnx(net, contract, 17)
    store_integer_weights(model)
    return model


def spelled(name: str, spelling: str) -> onnx.ModelProto:
    """A network as ONNX, in one of the spellings of its grid."""
    model = onnx.ModelProto()
    model.CopyFrom(_exported(name))
    SPELLINGS[spelling](model)
    return model
