"""A network as a folder that runs without this package: weights, and the few lines of snnTorch that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from bregma.files import write_bytes, write_text
from bregma.interop.chain import Network, as_sequential
from bregma.interop.libraries import library
from bregma.interop.snntorch import to_snntorch
from bregma.interop.state import settings_of
from bregma.interop.surrogates import from_step
from bregma.nn import Score

_SCORES: dict[Score | None, str] = {
    None: "membranes",
    "mean": "membranes.mean(0)",
    "sum": "membranes.sum(0)",
    "last": "membranes[-1]",
    "softmax": "membranes.softmax(-1).sum(0)",
}

_FILE = '''"""Made by bregma: a spiking network of snnTorch. Needs torch, snntorch and safetensors."""

from collections import OrderedDict
from pathlib import Path

import safetensors.torch
import snntorch as snn
import torch
from snntorch import surrogate, utils
from torch import nn


def load() -> nn.Sequential:
    """The network with its weights; call it once per time step, with frames (B, ...)."""
    net = nn.Sequential(
        OrderedDict(
{layers}
        )
    )
    net.load_state_dict(safetensors.torch.load_file(Path(__file__).with_name("weights.safetensors")))
    return net.eval()


@torch.no_grad()
def scores(net: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """What the network says of frames (T, B, ...)."""
    utils.reset(net)
    membranes = torch.stack([net(frame)[1] for frame in x])
    return {score}
'''


def write_snntorch(net: Network, folder: str | Path) -> None:
    """Write a network as ``network.py`` and ``weights.safetensors``.

    ``network.py`` needs torch, snntorch and safetensors; its ``load()`` gives what `to_snntorch` gives, and its
    ``scores(net, x)`` what ``net`` gives here.

    Args:
        net: what `bregma.interop.chain.as_sequential` takes.
        folder: where to write; it is made if it is not there.

    Raises:
        ValueError: as `to_snntorch`; or a surrogate or ``strict=False``, which snnTorch alone does not have.
        TypeError: as `to_snntorch`.
    """
    snn = library("snntorch", "snntorch")
    peer = to_snntorch(net)
    lines = [f"            {name}={_line(name, module, snn)}," for name, module in peer.named_children()]
    tensors = {name: tensor.contiguous().clone() for name, tensor in peer.state_dict().items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "weights.safetensors", safetensors.torch.save(tensors))
    text = _FILE.replace("{layers}", "\n".join(lines)).replace("{score}", _SCORES[as_sequential(net).score])
    write_text(folder / "network.py", text)


def _line(name: str, module: Any, snn: Any) -> str:
    """The call that makes a module of the same shape."""
    if not name.isidentifier():
        raise ValueError(f"{name}: a layer must be called by a Python name to be written as one")
    if type(module) in (nn.Linear, nn.Conv2d, nn.AvgPool2d):  # the latter two do not print all they are made of
        settings = ", ".join(f"{key}={value!r}" for key, value in settings_of(module).items())
        return f"nn.{type(module).__name__}({settings})"
    if not isinstance(module, snn.SpikingNeuron):
        return f"nn.{module!r}"
    options = {
        "beta": _constant(module.beta),
        "threshold": _constant(module.threshold),
        "spike_grad": _spike_grad(name, module),
        "reset_mechanism": repr(module.reset_mechanism),
        "reset_delay": str(module.reset_delay),
        "init_hidden": "True",
        "output": str(module.output),
    }
    if isinstance(module, snn.RLeaky):
        options["linear_features"] = str(module.linear_features)
    return f"snn.{type(module).__name__}({', '.join(f'{key}={value}' for key, value in options.items())})"


def _constant(value: Tensor) -> str:
    """A number, or a tensor of the right shape that the weights file fills."""
    return f"{value.item():.9g}" if value.dim() == 0 else f"torch.zeros({value.numel()})"


def _spike_grad(name: str, module: Any) -> str:
    surrogate, strict = from_step(module.spike_grad, name)
    kind, constants = type(surrogate).__name__, list(vars(surrogate).values())
    maker = {"ATan": "atan", "FastSigmoid": "fast_sigmoid"}.get(kind)
    if maker is None or not strict or module.beta.dtype != torch.float32:
        raise ValueError(
            f"{name}: snnTorch alone has float32 neurons with a strict threshold and the surrogates ATan and "
            f"FastSigmoid, got {module.beta.dtype}, strict={strict}, {kind}"
        )
    return f"surrogate.{maker}({constants[0]!r})"
